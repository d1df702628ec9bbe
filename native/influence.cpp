#include "influence.hpp"

#include <algorithm>
#include <cstring>

#include "buffer.hpp"
#include "helper.hpp"
#include "instruction_sets.hpp"
#include "threads.hpp"

namespace recurra {
namespace {

constexpr int32_t kAcross = 64;             // columns that are carried together: a whole number of tiles
constexpr size_t kPieceBytes = 64 << 10;    // of J that a thread takes at a time
constexpr int32_t kMostParts = 4;           // rows of an `own` group
constexpr int64_t kSharedFrom = 1 << 16;    // multiplications of a step from which on two threads share them

struct Chunk {  // of a group's columns, or of a gate's net inputs
  int32_t group, begin, end;
};

}  // namespace

struct Influence::Held {
  const Carrying* carrying;
  const Stepping* stepping;
  size_t number;
  Job job{};
  void* opened = nullptr;
  bool made = false;  // whether a step was taken
  std::vector<Buffer> states, other, panels;
  Buffer z;
  std::vector<Buffer> squares, vectors, inputs;  // what is made: of one row of the batch at a time
  std::vector<const void*> coefficients;
  std::vector<void*> square_data, vector_data, input_data;
  struct OfGroup {
    Buffer J, A, sums;
    std::vector<Buffer> E;
    std::vector<const void*> E_data;
    int64_t stride;
    bool waits;                            // for several steps, which are then carried at once: the rest is of them
    int32_t width = 0;
    Buffer between, at_once, told;         // (rows, kPast, …), see Past
    std::vector<Buffer> given;             // what is multiplied, of each member, or of the first that has the same
    std::vector<const char*> given_data;
  };
  std::vector<OfGroup> groups;
  std::vector<int32_t> steps;  // of each row, those that wait
  std::vector<char> told;      // of each row, whether a loss was collected since they do
  std::vector<Chunk> chunks, waiting, nets;
  std::vector<Buffer> scratch;  // of each thread
  std::unique_ptr<Helper> helper;

  // Pieces of work, shared with the helper where there is one.
  template <typename F>
  void share(int count, const F& piece) {
    const auto alone = [&] {
      for (int k = 0; k < count; ++k) piece(k);
    };
    if (helper && count > 1)
      helper->run(count, piece, alone);
    else
      alone();
  }

  ~Held() {
    if (opened) stepping->close(opened);
    if (helper && !helper->is_here()) helper.release()->leave();
  }
};

Influence::Influence(Plan given) : plan_(std::move(given)), held_(std::make_unique<Held>()) {
  Held& h = *held_;
  const Plan& p = plan_;
  h.carrying = p.is_double ? kernels().carrying_f64 : kernels().carrying_f32;
  h.stepping = p.is_double ? &kernels().step_f64 : &kernels().step_f32;
  h.number = p.is_double ? sizeof(double) : sizeof(float);
  const size_t all = size_t(p.rows) * h.number;
  for (const Plan::Part& part : p.parts) {
    h.states.emplace_back(all * part.width);
    h.other.emplace_back(all * part.width);
    plan_.arrays[part.states].row = plan_.arrays[part.begun].row = part.width;
  }
  h.z = Buffer(all * p.width);
  plan_.arrays[p.z] = {h.z.data(), 0, p.width};
  const Program& program = *p.program;
  Job& job = h.job;
  job.steps = 1;
  job.rows = p.rows;
  job.instructions = program.instructions.data();
  job.instruction_count = int32_t(program.instructions.size());
  job.slots = program.slots.data();
  job.slot_count = int32_t(program.slots.size());
  job.arrays = plan_.arrays.data();
  job.matrices = program.matrices.data();
  job.matrix_count = int32_t(program.matrices.size());
  job.panels = plan_.panels.data();
  job.fields = program.fields.data();
  job.field_count = int32_t(program.fields.size());
  job.cleared = program.cleared.data();
  h.opened = h.stepping->open(job, nullptr);

  for (const Square& s : p.squares) {
    h.squares.emplace_back(s.data ? 0 : size_t(s.rows) * s.stride * h.number);
    h.square_data.push_back(s.data ? const_cast<void*>(s.data) : h.squares.back().data());
  }
  for (const int32_t width : p.vectors) h.vectors.emplace_back(size_t(width) * h.number);
  for (const Buffer& v : h.vectors) h.vector_data.push_back(v.data());
  for (const Inputs& v : p.inputs) h.inputs.emplace_back((size_t(v.units) * v.columns + kFull) * h.number);  // zeros behind
  for (const Buffer& v : h.inputs) h.input_data.push_back(v.data());
  h.coefficients.resize(p.coefficients.size());

  for (size_t n = 0; n < p.nets.size(); ++n)
    for (int32_t begin = 0; begin < p.nets[n].count; begin += kAcross)
      h.nets.push_back({int32_t(n), begin, std::min(begin + kAcross, p.nets[n].count)});
  h.steps.resize(p.rows);
  h.told.resize(p.rows);
  size_t highest = kPast * (kMostParts + 1) * kFull / kAcross;
  int64_t work = 0;
  for (size_t n = 0; n < p.groups.size(); ++n) {
    const Group& g = p.groups[n];
    h.groups.emplace_back();
    Held::OfGroup& own = h.groups.back();
    // Rows of J lie a few lines of the cache more apart than they are long, so that they do not drive each other out.
    own.stride = (int64_t(g.columns) + kAcross - 1) / kAcross * kAcross + kAcross / 4;
    own.J = Buffer(all * g.rows * own.stride);
    own.sums = Buffer(own.stride * h.number);
    own.A = Buffer(size_t(g.rows) * g.from.size() * h.number);
    for (const Member& m : g.members) own.E.emplace_back(m.copied.empty() ? 0 : size_t(g.rows) * m.units * h.number);
    for (const Buffer& e : own.E) own.E_data.push_back(e.data());
    own.waits = g.own && std::all_of(g.members.begin(), g.members.end(), [&](const Member& m) { return p.inputs[m.site].units == 1; });
    if (own.waits) {
      own.width = (g.members[0].units + kFull - 1) / kFull * kFull;
      const size_t each = all * kPast * g.rows * own.width;
      own.between = Buffer(each * g.rows);
      own.at_once = Buffer(each * g.members.size());
      own.told = Buffer(each);
      for (size_t m = 0; m < g.members.size(); ++m) {
        const auto first = std::find_if(g.members.begin(), g.members.begin() + m,
                                        [&](const Member& other) { return other.site == g.members[m].site; });
        const size_t like = size_t(first - g.members.begin());
        own.given.emplace_back(like < m ? 0 : all * kPast * g.members[m].columns);
        own.given_data.push_back(like < m ? own.given_data[like] : own.given.back().data());
      }
    }
    highest = std::max(highest, size_t(g.rows));
    work += int64_t(g.columns) * g.rows * (g.own ? g.rows + 1 : int64_t(g.from.size()) + 2);
    const int32_t most = std::max(kAcross, int32_t(kPieceBytes / h.number / g.rows) / kAcross * kAcross);
    if (!g.own)
      for (int32_t begin = 0; begin < g.columns; begin += most)
        h.chunks.push_back({int32_t(n), begin, std::min(begin + most, int32_t(own.stride / kAcross * kAcross))});
    else
      for (const Member& m : g.members) {
        const int32_t units = std::max(1, most / m.columns);
        for (int32_t u = 0; u < m.units; u += units)
          (own.waits ? h.waiting : h.chunks)
              .push_back({int32_t(n), m.first + u * m.columns, m.first + std::min(m.units, u + units) * m.columns});
      }
  }
  for (int k = 0; k < 2; ++k) h.scratch.emplace_back(highest * kAcross * h.number);
  if (p.threads > 1 && work >= kSharedFrom && h.chunks.size() + h.waiting.size() > 1) h.helper = std::make_unique<Helper>();
}

Influence::~Influence() = default;

void* Influence::state(int32_t part) { return held_->states.at(part).data(); }

void* Influence::influence(int32_t group, int64_t* stride) {
  settle();
  Held::OfGroup& own = held_->groups.at(group);
  *stride = own.stride;
  return own.J.data();
}

void Influence::give(void* const* gradients) {
  settle();
  Held& h = *held_;
  for (const Giving& v : plan_.giving)
    h.carrying->give(v, plan_.groups[v.group].members[v.member], h.groups[v.group].sums.data(), gradients[v.parameter]);
  for (Held::OfGroup& group : h.groups) std::memset(group.sums.data(), 0, group.sums.bytes());
}

// Makes the linear part of a step for one row of the batch.
void Influence::assemble(int32_t row) {
  Held& h = *held_;
  const Plan& p = plan_;
  for (size_t k = 0; k < p.coefficients.size(); ++k) {
    const Coefficient& c = p.coefficients[k];
    const void* const data = c.array < 0 ? c.data : p.arrays[c.array].data;
    h.coefficients[k] = static_cast<const char*>(data) + size_t(row) * c.row * h.number;
  }
  const Place place{&p, h.coefficients.data(), h.square_data.data(), h.vector_data.data(), h.input_data.data()};
  for (const Making& m : p.makings) h.carrying->make(place, m);
  const auto gather = [&](const std::vector<Copied>& copied, char* to, size_t width) {
    for (const Copied& c : copied) {
      const char* from = static_cast<const char*>(h.square_data[c.matrix]) +
                         (size_t(c.row) * p.squares[c.matrix].stride + c.column) * h.number;
      std::memcpy(to + (size_t(c.to_row) * width + c.to_column) * h.number, from, size_t(c.count) * h.number);
    }
  };
  for (size_t n = 0; n < p.groups.size(); ++n) {
    const Group& g = p.groups[n];
    gather(g.copied, h.groups[n].A.data(), g.from.size());
    for (size_t m = 0; m < g.members.size(); ++m) gather(g.members[m].copied, h.groups[n].E[m].data(), g.members[m].units);
  }
}

// Keeps what a step does to the influence of one row of the batch, to be carried later.
void Influence::remember(int32_t row) {
  Held& h = *held_;
  const size_t slot = size_t(row) * kPast + h.steps[row];
  for (size_t n = 0; n < plan_.groups.size(); ++n) {
    const Group& g = plan_.groups[n];
    Held::OfGroup& own = h.groups[n];
    if (!own.waits) continue;
    const size_t width = own.width * h.number, units = size_t(g.members[0].units) * h.number;
    const auto keep = [&](const std::vector<int32_t>& vectors, char* to) {
      for (size_t k = 0; k < vectors.size(); ++k)
        if (vectors[k] >= 0) std::memcpy(to + k * width, h.vector_data[vectors[k]], units);
    };
    keep(g.vectors, own.between.data() + slot * g.rows * g.rows * width);
    for (size_t m = 0; m < g.members.size(); ++m) {
      keep(g.members[m].vectors, own.at_once.data() + (slot * g.members.size() + m) * g.rows * width);
      const size_t bytes = g.members[m].columns * h.number;
      if (own.given[m].bytes()) std::memcpy(own.given[m].data() + slot * bytes, h.input_data[g.members[m].site], bytes);
    }
    std::memset(own.told.data() + slot * g.rows * width, 0, g.rows * width);
  }
  ++h.steps[row];
}

void Influence::settle() {
  Held& h = *held_;
  if (std::none_of(h.steps.begin(), h.steps.end(), [](int32_t steps) { return steps > 0; })) return;
  in_parallel(1, [&](int) {
    const Plan& p = plan_;
    h.share(int(h.waiting.size()), [&](int k) {
      const Chunk& c = h.waiting[k];
      const Group& g = p.groups[c.group];
      Held::OfGroup& own = h.groups[c.group];
      const size_t width = own.width * h.number, parts = g.rows, members = g.members.size();
      std::vector<const void*> given(members);
      for (int32_t row = 0; row < p.rows; ++row) {
        if (!h.steps[row]) continue;
        const size_t slot = size_t(row) * kPast;
        for (size_t m = 0; m < members; ++m) given[m] = own.given_data[m] + slot * g.members[m].columns * h.number;
        const Past past{h.steps[row], own.width, bool(h.told[row]), own.between.data() + slot * parts * parts * width,
                        own.at_once.data() + slot * members * parts * width, own.told.data() + slot * parts * width, given.data()};
        h.carrying->settle(g, past, own.J.data() + row * parts * own.stride * h.number, own.stride, c.begin, c.end, own.sums.data(),
                           h.scratch[h.helper && h.helper->is_helping()].data());
      }
    });
  });
  std::fill(h.steps.begin(), h.steps.end(), 0);
  std::fill(h.told.begin(), h.told.end(), 0);
}

void Influence::advance(const void* x, void* y, const uint8_t* taken) {
  if (std::any_of(held_->steps.begin(), held_->steps.end(), [](int32_t steps) { return steps == kPast; })) settle();
  in_parallel(1, [&](int) {
    Held& h = *held_;
    const Plan& p = plan_;
    const int32_t output = p.parts[0].width;
    std::vector<Packing> todo;
    for (const Layout::Packed& k : p.packed)
      todo.push_back({reinterpret_cast<const char*>(p.addresses[k.from.address]) + k.from.offset * h.number, k.rows, k.columns, k.stride,
                      k.transposed, reinterpret_cast<char*>(p.addresses[k.to.address]) + k.to.offset * h.number});
    if (!todo.empty()) pack(p.is_double, todo, 1);
    h.share(int(h.nets.size()), [&](int k) {
      const Chunk& c = h.nets[k];
      for (int32_t row = 0; row < p.rows; ++row)
        h.carrying->net(p.nets[c.group], c.begin, c.end, p.input, output, static_cast<const char*>(x) + size_t(row) * p.input * h.number,
                        h.states[0].data() + size_t(row) * output * h.number, h.z.data() + size_t(row) * p.width * h.number);
    });
    for (size_t k = 0; k < p.parts.size(); ++k) {
      plan_.arrays[p.parts[k].begun].data = h.states[k].data();
      plan_.arrays[p.parts[k].states].data = h.other[k].data();
    }
    h.stepping->read_vectors(h.opened);
    h.stepping->run(h.opened);
    const Place place{&p, h.coefficients.data(), h.square_data.data(), h.vector_data.data(), h.input_data.data()};
    for (int32_t row = 0; row < p.rows; ++row) {
      if (taken && !taken[row]) {
        for (size_t k = 0; k < p.parts.size(); ++k) {
          const size_t bytes = size_t(p.parts[k].width) * h.number;
          std::memcpy(h.other[k].data() + row * bytes, h.states[k].data() + row * bytes, bytes);
        }
        continue;
      }
      assemble(row);
      h.made = true;
      for (size_t k = 0; k < p.inputs.size(); ++k)
        h.carrying->bring(place, p.inputs[k], static_cast<const char*>(x) + size_t(row) * p.input * h.number, h.input_data[k]);
      if (!h.waiting.empty()) remember(row);
      if (h.chunks.empty()) continue;
      h.share(int(h.chunks.size()), [&](int k) {
        const Chunk& c = h.chunks[k];
        Held::OfGroup& own = h.groups[c.group];
        const Group& g = p.groups[c.group];
        h.carrying->carry(place, g, own.A.data(), own.E_data.data(), own.J.data() + size_t(row) * g.rows * own.stride * h.number,
                          own.stride, c.begin, c.end, h.scratch[h.helper && h.helper->is_helping()].data());
      });
    }
    std::swap(h.states, h.other);
    char* to = static_cast<char*>(y);
    for (int32_t row = 0; row < p.rows; ++row)
      for (int32_t k = 0; k < p.outputs; ++k) {
        const size_t bytes = size_t(p.parts[k].width) * h.number;
        std::memcpy(to, h.states[k].data() + row * bytes, bytes);
        to += bytes;
      }
  });
}

void Influence::collect(const void* delta, void* below) {
  in_parallel(1, [&](int) {
    Held& h = *held_;
    const Plan& p = plan_;
    size_t width = 0;
    for (const Plan::Part& part : p.parts) width += part.width;
    const char* const given = static_cast<const char*>(delta);
    const auto collect = [&](const Chunk& c, int32_t row) {
      Held::OfGroup& own = h.groups[c.group];
      const Group& g = p.groups[c.group];
      h.carrying->collect(g, given + row * width * h.number, own.J.data() + size_t(row) * g.rows * own.stride * h.number, own.stride,
                          c.begin, c.end, own.sums.data());
    };
    if (!h.chunks.empty())
      h.share(int(h.chunks.size()), [&](int k) {
        for (int32_t row = 0; row < p.rows; ++row) collect(h.chunks[k], row);
      });
    for (int32_t row = 0; row < p.rows; ++row) {
      if (!h.steps[row]) {  // no step waits that it could be told to
        for (const Chunk& c : h.waiting) collect(c, row);
        continue;
      }
      h.told[row] = true;
      for (size_t n = 0; n < p.groups.size(); ++n) {
        const Group& g = p.groups[n];
        const Held::OfGroup& own = h.groups[n];
        if (!own.waits) continue;
        for (int32_t part = 0; part < g.rows; ++part)
          h.carrying->add(g.members[0].units, given + (row * width + g.numbers[part]) * h.number,
                          own.told.data() + ((size_t(row) * kPast + h.steps[row] - 1) * g.rows + part) * own.width * h.number);
      }
    }
    if (!below) return;
    std::memset(below, 0, size_t(p.rows) * p.input * h.number);
    if (!h.made) return;  // no step was taken that the error could go back through
    const Place place{&p, h.coefficients.data(), h.square_data.data(), h.vector_data.data(), h.input_data.data()};
    for (int32_t row = 0; row < p.rows; ++row) {
      if (p.rows > 1) assemble(row);  // what was made last is that of the last row
      for (const Through& t : p.through) {
        const Group& g = p.groups[t.group];
        h.carrying->back(place, g, g.members[t.member], h.groups[t.group].E[t.member].data(), t.W, p.input,
                         static_cast<const char*>(delta) + row * width * h.number,
                         static_cast<char*>(below) + size_t(row) * p.input * h.number);
      }
    }
  });
}

}  // namespace recurra
