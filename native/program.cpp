#include "program.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>

#include "instruction_sets.hpp"
#include "threads.hpp"

namespace recurra {
namespace {

// Numbers of matrices from which on it is worth while to share out the units of a step, and to wait for each other.
constexpr size_t kSharedFrom = 1 << 17;

// Numbers of matrices from which on it is worth while to put them into panels with several threads.
constexpr size_t kPackedTogetherFrom = 1 << 19;

// Whether what is multiplied is zero throughout, as a state before the first step often is: then nothing is added.
template <typename T>
bool is_zero(const Outer& one) {
  const T* row = static_cast<const T*>(one.v);
  for (int32_t k = 0; k < one.rows; ++k, row += one.v_stride)
    for (int32_t i = 0; i < one.columns; ++i)
      if (row[i] != T(0)) return false;
  return true;
}

// The sums of all threads are added to where they belong.
template <typename T>
void add(const Program& program, const Call& call, const std::vector<std::vector<T>>& sums) {
  size_t offset = 0;
  for (const Sum& sum : program.sums) {
    T* out = static_cast<T*>(call.arrays[sum.array].data);
    for (int32_t i = 0; i < sum.width; ++i) {
      T total = T(0);
      for (const auto& one : sums) total += one[offset + i];
      out[i] += total;
    }
    offset += sum.width;
  }
}

template <typename T>
void run_as(const Program& program, const Call& call) {
  Job job{};
  job.steps = call.steps;
  job.rows = call.rows;
  job.from_the_end = call.from_the_end;
  job.backward = program.backward;
  job.instructions = program.instructions.data();
  job.instruction_count = int32_t(program.instructions.size());
  job.slots = program.slots.data();
  job.slot_count = int32_t(program.slots.size());
  job.arrays = call.arrays.data();
  job.matrices = program.matrices.data();
  job.matrix_count = int32_t(program.matrices.size());
  job.panels = call.panels.data();
  job.fields = program.fields.data();
  job.field_count = int32_t(program.fields.size());
  job.sums = program.sums.data();
  job.sum_count = int32_t(program.sums.size());
  job.valid = call.valid;
  job.resets = call.resets;
  job.more_resets = call.more_resets;
  job.tidy = call.tidy;
  job.cleared = program.cleared.data();

  size_t width = 0;
  for (const Sum& sum : program.sums) width += sum.width;
  const int threads = std::max(1, std::min(call.threads, call.rows));
  std::vector<std::vector<T>> sums(threads, std::vector<T>(width, T(0)));
  const auto run_rows = sizeof(T) == 4 ? kernels().run_f32 : kernels().run_f64;
  const Stepping& step = sizeof(T) == 4 ? kernels().step_f32 : kernels().step_f64;
  size_t numbers = 0;
  for (const Matrix& matrix : program.matrices) numbers += size_t(matrix.operand) * matrix.width;
  if (call.rows < call.threads && numbers >= kSharedFrom && step.is_shared(job)) {
    std::unique_ptr<void, void (*)(void*)> opened(step.open(job, sums[0].data()), step.close);
    Barrier barrier;
    in_team(call.threads, [&](int part, int parts) { step.run_in_team(opened.get(), part, parts, barrier); });
    return add(program, call, sums);
  }
  const int each = (call.rows + threads - 1) / threads;
  in_parallel(threads, [&](int k) {
    const int first = std::min(k * each, int(call.rows)), last = std::min(first + each, int(call.rows));
    if (first < last) run_rows(job, first, last, sums[k].data());
  });
  add(program, call, sums);
}

}  // namespace

void run(const Program& program, const Call& call) {
  if (program.is_double)
    run_as<double>(program, call);
  else
    run_as<float>(program, call);
}

double run(const Layout& layout, const std::vector<int64_t>& addresses, const Start& start) {
  const Program& program = *layout.program;
  const int64_t size = program.is_double ? sizeof(double) : sizeof(float);
  const auto at = [&](const Layout::Place& place) {
    return place.address < 0 ? nullptr : reinterpret_cast<char*>(addresses[place.address]) + place.offset * size;
  };
  if (start.packs) {
    std::vector<Packing> packings;
    size_t numbers = 0;
    for (const Layout::Packed& one : layout.packed) {
      packings.push_back({at(one.from), one.rows, one.columns, one.stride, one.transposed, at(one.to)});
      numbers += size_t(one.rows) * one.columns;
    }
    pack(program.is_double, packings, numbers > kPackedTogetherFrom ? start.threads : 1);
  }
  Call call{start.steps, layout.rows, start.threads, start.from_the_end, {}, {}, start.valid, start.resets, start.more_resets,
            layout.tidy};
  for (const Layout::Route& route : layout.arrays) {
    char* const first = at(route);
    call.arrays.push_back({first && route.moves ? first + start.step * route.step * size : first, route.step, route.row});
  }
  for (const Layout::Place& place : layout.panels) call.panels.push_back(at(place));
  const auto begun = std::chrono::steady_clock::now();
  run(program, call);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
  for (const Layout::Last& last : layout.last) {
    const Array& states = call.arrays[last.array];
    const int64_t step = start.from_the_end ? 0 : start.steps - 1;
    std::memcpy(at(last.to), static_cast<const char*>(states.data) + step * states.step * size, last.numbers * size);
  }
  if (!layout.products.empty()) {
    std::vector<Outer> outers;
    for (const Layout::Product& one : layout.products) {
      Outer outer = one.outer;
      outer.d = at(one.d);
      outer.v = at(one.v);
      outer.out = at(one.out);
      if (!(outer.adds && (program.is_double ? is_zero<double>(outer) : is_zero<float>(outer)))) outers.push_back(outer);
    }
    recurra::outer(program.is_double, outers, layout.product_threads);
  }
  return taken.count();
}

int64_t packed_size(bool is_double, int32_t rows, int32_t columns, bool transposed) {
  const int64_t panel = is_double ? kernels().panel_f64 : kernels().panel_f32;
  const int64_t width = transposed ? columns : rows, operand = transposed ? rows : columns;
  return (width + panel - 1) / panel * panel * operand;
}

void pack(bool is_double, const std::vector<Packing>& all, int32_t threads) {
  const auto pack_some = is_double ? kernels().pack_f64 : kernels().pack_f32;
  const int32_t panel = is_double ? kernels().panel_f64 : kernels().panel_f32;
  threads = std::max(1, threads);
  in_parallel(threads, [&](int k) {
    for (const Packing& one : all) {
      const int32_t panels = ((one.transposed ? one.columns : one.rows) + panel - 1) / panel;
      pack_some(one, int32_t(int64_t(panels) * k / threads), int32_t(int64_t(panels) * (k + 1) / threads));
    }
  });
}

void outer(bool is_double, const std::vector<Outer>& all, int32_t threads) {
  const auto some = is_double ? kernels().outer_f64 : kernels().outer_f32;
  threads = std::max(1, threads);
  in_parallel(threads, [&](int k) {
    for (const Outer& one : all) some(one, k, threads);
  });
}

}  // namespace recurra
