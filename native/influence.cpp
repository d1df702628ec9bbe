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
    Buffer J, A, sums;  // A and E are those of the last step that was made
    std::vector<Buffer> E;
    int64_t stride;
    int32_t width;                      // numbers of a vector, where units go by themselves; else 1
    Buffer D, between, delta;           // of the steps that wait, (rows, most, …), see Past
    std::vector<Buffer> waiting_E, at_once, inputs;
    std::vector<const char*> inputs_data;  // members of the same site share them
    Buffer whole, each, errors;         // see Products
  };
  std::vector<OfGroup> groups;
  int32_t most = kPast;        // steps that wait at the most
  std::vector<int32_t> steps;  // of each row, those that wait
  std::vector<char> told;      // of each row, whether a loss was collected since they do
  std::vector<Chunk> chunks, nets;
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
  // Where each unit multiplies numbers of its own, keeping these for several steps would be keeping J several times.
  h.most = p.most;
  for (const Inputs& inputs : p.inputs)
    if (inputs.units > 1) h.most = 1;
  size_t highest = size_t(kPast) * (kMostParts + 1) * kFull;
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
    own.width = g.own ? (g.members[0].units + kFull - 1) / kFull * kFull : 1;
    const size_t waiting = all * h.most;
    own.D = Buffer(waiting * g.rows * (g.own ? size_t(g.rows) * own.width : g.from.size()));
    own.between = Buffer(waiting * g.singles.size());
    own.delta = Buffer(waiting * g.rows * own.width);
    for (size_t m = 0; m < g.members.size(); ++m) {
      const Member& member = g.members[m];
      const Inputs& inputs = p.inputs[member.site];
      own.waiting_E.emplace_back(g.own ? waiting * g.rows * own.width : member.copied.empty() ? 0 : waiting * g.rows * member.units);
      own.at_once.emplace_back(waiting * member.singles.size());
      const auto first = std::find_if(g.members.begin(), g.members.begin() + m,
                                      [&](const Member& other) { return other.site == member.site; });
      const size_t like = size_t(first - g.members.begin());
      own.inputs.emplace_back(like < m ? 0 : (waiting * inputs.units * inputs.columns + kFull * h.number));
      own.inputs_data.push_back(like < m ? own.inputs_data[like] : own.inputs.back().data());
    }
    if (!g.own && h.most > 1) {
      const size_t along = (g.rows + kFull - 1) / kFull * kFull;
      own.whole = Buffer(size_t(g.rows + 1) * g.rows * h.number);
      own.each = Buffer(size_t(kPast + 2) * g.rows * along * h.number);
      own.errors = Buffer(size_t(kPast) * g.rows * h.number);
    }
    highest = std::max(highest, size_t(g.rows + kFull) * (kAcross + 2 * kPast));
    work += int64_t(g.columns) * g.rows * (g.own ? g.rows + 1 : int64_t(g.from.size()) + 2);
    const int32_t most = std::max(kAcross, int32_t(kPieceBytes / h.number / g.rows) / kAcross * kAcross);
    if (!g.own)
      for (int32_t begin = 0; begin < g.columns; begin += most)
        h.chunks.push_back({int32_t(n), begin, std::min(begin + most, int32_t(own.stride / kAcross * kAcross))});
    else
      for (const Member& m : g.members) {
        const int32_t units = std::max(1, most / m.columns);
        for (int32_t u = 0; u < m.units; u += units)
          h.chunks.push_back({int32_t(n), m.first + u * m.columns, m.first + std::min(m.units, u + units) * m.columns});
      }
  }
  for (int k = 0; k < 2; ++k) h.scratch.emplace_back(highest * h.number);
  if (p.threads > 1 && work >= kSharedFrom && h.chunks.size() > 1) h.helper = std::make_unique<Helper>();
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
void Influence::remember(const Place& place, int32_t row) {
  Held& h = *held_;
  const size_t slot = size_t(row) * h.most + h.steps[row];
  const auto keep = [&](const Buffer& from, const Buffer& to) {
    if (from.bytes()) std::memcpy(to.data() + slot * from.bytes(), from.data(), from.bytes());
  };
  for (size_t n = 0; n < plan_.groups.size(); ++n) {
    const Group& g = plan_.groups[n];
    Held::OfGroup& own = h.groups[n];
    const size_t width = own.width * h.number;
    const auto keep_vectors = [&](const std::vector<int32_t>& vectors, char* to) {
      for (size_t k = 0; k < vectors.size(); ++k)
        if (vectors[k] >= 0) std::memcpy(to + k * width, h.vector_data[vectors[k]], size_t(g.members[0].units) * h.number);
    };
    if (g.own)
      keep_vectors(g.vectors, own.D.data() + slot * g.rows * g.rows * width);
    else
      keep(own.A, own.D);
    h.carrying->gather(place, g.singles, own.between.data() + slot * g.singles.size() * h.number);
    std::memset(own.delta.data() + slot * g.rows * width, 0, g.rows * width);
    for (size_t m = 0; m < g.members.size(); ++m) {
      const Member& member = g.members[m];
      const Inputs& inputs = plan_.inputs[member.site];
      if (g.own)
        keep_vectors(member.vectors, own.waiting_E[m].data() + slot * g.rows * width);
      else
        keep(own.E[m], own.waiting_E[m]);
      h.carrying->gather(place, member.singles, own.at_once[m].data() + slot * member.singles.size() * h.number);
      const size_t bytes = size_t(inputs.units) * inputs.columns * h.number;
      if (own.inputs[m].bytes()) std::memcpy(own.inputs[m].data() + slot * bytes, h.input_data[member.site], bytes);
    }
  }
  ++h.steps[row];
}

void Influence::settle() {
  Held& h = *held_;
  if (std::none_of(h.steps.begin(), h.steps.end(), [](int32_t steps) { return steps > 0; })) return;
  in_parallel(1, [&](int) {
    const Plan& p = plan_;
    const Place place{&p, h.coefficients.data(), h.square_data.data(), h.vector_data.data(), h.input_data.data()};
    std::vector<std::vector<const void*>> of_members(3 * p.groups.size());
    for (int32_t row = 0; row < p.rows; ++row) {
      if (!h.steps[row]) continue;
      const size_t slot = size_t(row) * h.most;
      std::vector<Past> past;
      std::vector<Products> products;
      for (size_t n = 0; n < p.groups.size(); ++n) {
        const Group& g = p.groups[n];
        const Held::OfGroup& own = h.groups[n];
        const size_t rows = g.rows, width = own.width * h.number;
        std::vector<const void*>*const E = &of_members[3 * n], *const at_once = E + 1, *const inputs = E + 2;
        E->clear(), at_once->clear(), inputs->clear();
        for (size_t m = 0; m < g.members.size(); ++m) {
          const Member& member = g.members[m];
          const Inputs& of_site = p.inputs[member.site];
          E->push_back(own.waiting_E[m].data() + slot * rows * (g.own ? width : size_t(member.units) * h.number));
          at_once->push_back(own.at_once[m].data() + slot * member.singles.size() * h.number);
          inputs->push_back(own.inputs_data[m] + slot * of_site.units * of_site.columns * h.number);
        }
        past.push_back({h.steps[row], own.width, bool(h.told[row]),
                        own.D.data() + slot * rows * (g.own ? rows * width : g.from.size() * h.number),
                        own.between.data() + slot * g.singles.size() * h.number, own.delta.data() + slot * rows * width,
                        E->data(), at_once->data(), inputs->data()});
        products.push_back({own.whole.data(), own.each.data(), own.errors.data(), (g.rows + kFull - 1) / kFull * kFull});
        if (!g.own && h.steps[row] > 1) h.carrying->multiply(g, past.back(), products.back());
      }
      h.share(int(h.chunks.size()), [&](int k) {
        const Chunk& c = h.chunks[k];
        const Group& g = p.groups[c.group];
        Held::OfGroup& own = h.groups[c.group];
        h.carrying->settle(place, g, past[c.group], products[c.group], own.J.data() + size_t(row) * g.rows * own.stride * h.number,
                           own.stride, c.begin, c.end, own.sums.data(), h.scratch[h.helper && h.helper->is_helping()].data());
      });
    }
  });
  std::fill(h.steps.begin(), h.steps.end(), 0);
  std::fill(h.told.begin(), h.told.end(), 0);
}

void Influence::advance(const void* x, void* y, const uint8_t* taken) {
  if (std::any_of(held_->steps.begin(), held_->steps.end(), [&](int32_t steps) { return steps == held_->most; })) settle();
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
      remember(place, row);
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
    for (int32_t row = 0; row < p.rows; ++row) {
      const char* const own_given = given + row * width * h.number;
      if (!h.steps[row]) {  // no step waits that it could be told to
        h.share(int(h.chunks.size()), [&](int k) {
          const Chunk& c = h.chunks[k];
          Held::OfGroup& own = h.groups[c.group];
          const Group& g = p.groups[c.group];
          h.carrying->collect(g, own_given, own.J.data() + size_t(row) * g.rows * own.stride * h.number, own.stride, c.begin, c.end,
                              own.sums.data());
        });
        continue;
      }
      h.told[row] = true;
      const size_t slot = size_t(row) * h.most + h.steps[row] - 1;
      for (size_t n = 0; n < p.groups.size(); ++n) {
        const Group& g = p.groups[n];
        const Held::OfGroup& own = h.groups[n];
        for (int32_t part = 0; part < g.rows; ++part)
          h.carrying->add(g.own ? g.members[0].units : 1, own_given + g.numbers[part] * h.number,
                          own.delta.data() + (slot * g.rows + part) * own.width * h.number);
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
