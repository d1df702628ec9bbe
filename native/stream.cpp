#include "stream.hpp"

#include <algorithm>
#include <cstring>

#include "buffer.hpp"
#include "helper.hpp"
#include "instruction_sets.hpp"
#include "threads.hpp"

namespace recurra {
namespace {

constexpr int32_t kRowsAtOnce = 24;       // of x, over several steps, whose W x is computed in one product
constexpr size_t kSharedFrom = 768 << 10;  // bytes of W and U together from which on two threads read them (measured)
constexpr int32_t kColumns = 128;         // of z that a thread takes at a time

}  // namespace

struct Stream::Held {
  Layer layer;
  Job job{};
  void* opened = nullptr;
  const Stepping* stepping = nullptr;
  std::vector<Buffer> states, other;  // of each part: the state, and where the next one is written
  Buffer z, out;
  bool is_down = false;  // the next product begins with its last columns

  ~Held() {
    if (opened) stepping->close(opened);
  }
};

Stream::Stream(bool is_double, int32_t rows, int32_t threads, const std::vector<Layer>& layers)
    : is_double_(is_double), rows_(rows), at_once_(std::max(1, kRowsAtOnce / rows)) {
  const size_t number = is_double ? sizeof(double) : sizeof(float), all = size_t(rows) * number;
  size_t largest = 0;
  for (const Layer& layer : layers) {
    layers_.push_back(std::make_unique<Held>());
    Held& held = *layers_.back();
    held.layer = layer;
    held.stepping = is_double ? &kernels().step_f64 : &kernels().step_f32;
    held.z = Buffer(all * layer.width * at_once_);
    held.out = Buffer(all * layer.output() * at_once_);
    for (const Part& part : layer.parts) {
      held.states.emplace_back(all * part.width);
      held.other.emplace_back(all * part.width);
      held.layer.arrays[part.states].row = held.layer.arrays[part.begun].row = part.width;
    }
    held.layer.arrays[layer.z].row = layer.width;
    const Program& program = *layer.program;
    Job& job = held.job;
    job.steps = 1;
    job.rows = rows;
    job.instructions = program.instructions.data();
    job.instruction_count = int32_t(program.instructions.size());
    job.slots = program.slots.data();
    job.slot_count = int32_t(program.slots.size());
    job.arrays = held.layer.arrays.data();
    job.matrices = program.matrices.data();
    job.matrix_count = int32_t(program.matrices.size());
    job.panels = held.layer.panels.data();
    job.fields = program.fields.data();
    job.field_count = int32_t(program.fields.size());
    job.cleared = program.cleared.data();
    held.opened = held.stepping->open(job, nullptr);
    largest = std::max(largest, (size_t(layer.input) * layer.width + size_t(layer.added) * layer.parts[0].width) * number);
  }
  if (threads > 1 && largest >= kSharedFrom) helper_ = std::make_unique<Helper>();
}

Stream::~Stream() {
  if (helper_ && !helper_->is_here()) helper_.release()->leave();
}

void* Stream::state(int32_t layer, int32_t part) const { return layers_.at(layer)->states.at(part).data(); }

const Layer& Stream::layer(int32_t k) const { return layers_.at(k)->layer; }

int64_t Stream::work() const {
  int64_t found = 0;
  for (const auto& held : layers_) found += int64_t(held->layer.width) * (held->layer.input + held->layer.parts[0].width);
  return found * rows_;
}

int32_t Stream::input() const { return layers_.front()->layer.input; }

int32_t Stream::output() const { return layers_.back()->layer.output(); }

void Stream::run(const void* x, void* y, int64_t steps) {
  in_parallel(1, [&](int) {
    const size_t number = is_double_ ? sizeof(double) : sizeof(float);
    const char* from = static_cast<const char*>(x);
    char* to = static_cast<char*>(y);
    for (int64_t done = 0; done < steps;) {
      const int32_t some = int32_t(std::min<int64_t>(at_once_, steps - done));
      const char* input = from;
      for (const auto& layer : layers_) {
        char* const output = layer == layers_.back() ? to : layer->out.data();
        run_layer(*layer, input, output, some);
        input = output;
      }
      from += size_t(some) * rows_ * this->input() * number;
      to += size_t(some) * rows_ * output() * number;
      done += some;
    }
  });
}

void Stream::run_layer(Held& held, const char* x, char* y, int32_t steps) {
  const Layer& layer = held.layer;
  const size_t number = is_double_ ? sizeof(double) : sizeof(float);
  const int32_t h = layer.parts[0].width, pieces = (layer.width + kColumns - 1) / kColumns;
  const auto multiply = held.stepping->multiply;
  const auto columns = [&](int k, int32_t width) { return std::min(kColumns, width - k * kColumns); };
  const auto at = [&](const void* v, size_t numbers) { return static_cast<const char*>(v) + numbers * number; };
  // Panels are as wide as kColumns, or a part of that: a piece begins with a panel.
  const auto of_x = [&](int k) {
    const size_t first = size_t(k) * kColumns;
    multiply(steps * rows_, x, layer.input, at(layer.W, first * layer.input), layer.input, columns(k, layer.width),
             held.z.data() + first * number, layer.width, layer.bias ? at(layer.bias, first) : nullptr, 0);
  };
  const auto share = [&](const auto& piece) {
    const auto alone = [&] {  // to and fro: of matrices larger than the cache, what was read last is still there
      for (int k = 0; k < pieces; ++k) piece(held.is_down ? pieces - 1 - k : k);
      held.is_down = !held.is_down;
    };
    if (helper_ && pieces > 1)
      helper_->run(pieces, piece, alone);
    else
      alone();
  };
  const bool together = steps == 1;
  if (!together) share(of_x);
  for (int32_t t = 0; t < steps; ++t) {
    char* const z = held.z.data() + size_t(t) * rows_ * layer.width * number;
    const auto of_h = [&](int k) {
      const size_t first = size_t(k) * kColumns;
      if (int32_t(first) >= layer.added) return;
      char* const into = z + first * number;
      multiply(rows_, held.states[0].data(), h, at(layer.U, first * h), h, columns(k, layer.added), into, layer.width, into,
               layer.width);
    };
    if (together)
      share([&](int k) {
        of_x(k);
        of_h(k);
      });
    else if (layer.added)
      share(of_h);
    held.layer.arrays[layer.z].data = z;
    for (size_t p = 0; p < layer.parts.size(); ++p) {
      held.layer.arrays[layer.parts[p].begun].data = held.states[p].data();
      held.layer.arrays[layer.parts[p].states].data = held.other[p].data();
    }
    held.stepping->run(held.opened);
    std::swap(held.states, held.other);
    for (int32_t row = 0; row < (layer.outputs == 1 ? 1 : rows_); ++row)
      for (int32_t p = 0; p < layer.outputs; ++p) {  // one part is copied as it lies
        const size_t bytes = size_t(layer.parts[p].width) * number * (layer.outputs == 1 ? rows_ : 1);
        std::memcpy(y, held.states[p].data() + row * bytes, bytes);
        y += bytes;
      }
  }
}

}  // namespace recurra
