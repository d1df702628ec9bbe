// recurra._native: the compiled core as Python sees it. src/recurra/_native.pyi says the same in types.
//
// Addresses go by as whole numbers: Python holds the tensors, which must live and stay where they are during a call.
#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "instruction_sets.hpp"
#include "program.hpp"
#include "stream_module.hpp"

namespace nb = nanobind;
using recurra::Program;

namespace {

using Six = std::tuple<int32_t, int32_t, int32_t, int32_t, int32_t, int32_t>;
using Seven = std::tuple<int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t>;
using Place = std::tuple<int32_t, int32_t, int32_t, int32_t, int32_t, double>;
using Sizes = std::tuple<int32_t, int32_t, int32_t>;
using Two = std::tuple<int32_t, int32_t>;
using Where = std::tuple<uintptr_t, int32_t, int32_t, int32_t, bool, uintptr_t>;

// What a program names must be there: it is made once, so that this costs nothing while it runs.
void check(const Program& program, int32_t arrays) {
  const int32_t slots = int32_t(program.slots.size());
  const auto within = [](int32_t i, int32_t first, int32_t count, const char* what) {
    if (i < first || i >= count)
      throw std::invalid_argument(std::string(what) + " " + std::to_string(i) + " of " + std::to_string(count));
  };
  for (const auto& i : program.instructions) {
    within(int32_t(i.op), 0, int32_t(recurra::Op::product) + 1, "operation");
    for (const int32_t s : {i.d, i.a, i.b, i.c}) within(s, -1, slots, "slot");
    if (i.op == recurra::Op::product) within(i.aux, 0, int32_t(program.matrices.size()), "matrix");
    if (i.op == recurra::Op::accumulate) within(i.aux, 0, int32_t(program.sums.size()), "sum");
  }
  for (const auto& s : program.slots) {
    within(s.array, -1, arrays, "array");
    within(s.first, -1, arrays, "array");
  }
  for (const auto& f : program.fields) {
    within(f.old_slot, -1, slots, "slot");
    for (const int32_t a : {f.states, f.initial, f.carry, f.given, f.of_reset}) within(a, -1, arrays, "array");
  }
  for (const auto& s : program.sums) within(s.array, 0, arrays, "array");
  for (const int32_t s : program.cleared) within(s, -1, slots, "slot");
}

Program made(const std::vector<Six>& instructions, const std::vector<Place>& slots, const std::vector<Seven>& fields,
             const std::vector<Sizes>& matrices, const std::vector<Two>& sums, const std::vector<int32_t>& cleared,
             int32_t arrays, bool backward, bool is_double) {
  Program program;
  for (const auto& [op, d, a, b, c, aux] : instructions) program.instructions.push_back({recurra::Op(op), d, a, b, c, aux});
  for (const auto& [kind, width, array, first, column, number] : slots)
    program.slots.push_back({recurra::Kind(kind), width, array, first, column, number});
  for (const auto& [width, states, initial, old_slot, carry, given, of_reset] : fields)
    program.fields.push_back({width, states, initial, old_slot, carry, given, of_reset});
  for (const auto& [operand, width, blocks] : matrices) program.matrices.push_back({operand, width, blocks});
  for (const auto& [width, array] : sums) program.sums.push_back({width, array});
  program.cleared = cleared;
  program.cleared.push_back(-1);
  program.array_count = arrays;
  program.backward = backward;
  program.is_double = is_double;
  check(program, arrays);
  return program;
}

void run(const Program& program, int32_t steps, int32_t rows, int32_t threads, bool from_the_end,
         const std::vector<int64_t>& arrays, const std::vector<int64_t>& panels, uintptr_t valid, uintptr_t resets,
         bool more_resets) {
  if (int32_t(arrays.size()) != 3 * program.array_count || panels.size() != program.matrices.size())
    throw std::invalid_argument("a program of " + std::to_string(program.array_count) + " arrays and " +
                                std::to_string(program.matrices.size()) + " matrices was given " +
                                std::to_string(arrays.size() / 3) + " and " + std::to_string(panels.size()));
  recurra::Call call{steps, rows, threads, from_the_end, {}, {}, reinterpret_cast<const uint8_t*>(valid),
                     reinterpret_cast<const uint8_t*>(resets), more_resets};
  for (size_t i = 0; i < arrays.size(); i += 3)
    call.arrays.push_back({reinterpret_cast<void*>(arrays[i]), arrays[i + 1], arrays[i + 2]});
  for (const int64_t one : panels) call.panels.push_back(reinterpret_cast<const void*>(one));
  nb::gil_scoped_release release;
  recurra::run(program, call);
}

void pack(bool is_double, const std::vector<Where>& all, int32_t threads) {
  std::vector<recurra::Packing> packings;
  for (const auto& [matrix, rows, columns, stride, transposed, panels] : all)
    packings.push_back({reinterpret_cast<const void*>(matrix), rows, columns, stride, transposed, reinterpret_cast<void*>(panels)});
  nb::gil_scoped_release release;
  recurra::pack(is_double, packings, threads);
}

}  // namespace

NB_MODULE(_native, module) {
  nb::set_leak_warnings(false);  // programs live as long as the process: kernels are kept by what they are made of
  module.doc() = "The compiled core: runs the program of any recurrent cell along time. See recurra.engine.native.";

  module.def("instruction_sets", [] {
    nb::dict sets;
    for (const recurra::InstructionSet& set : recurra::instruction_sets()) sets[set.kernels->name] = set.runs_here;
    return sets;
  }, "Every instruction set that the core was built for, from the plainest to the widest, and whether this processor has it.");

  // std::invalid_argument becomes ValueError.
  module.def("chosen", [] { return recurra::kernels().name; },
             "The instruction set that runs: the widest that this processor has, or what RECURRA_ISA names.");

  nb::class_<Program>(module, "Program", "A program, made once for a cell, a hidden_size and a type of numbers.")
      .def("__init__", [](Program* self, const std::vector<Six>& instructions, const std::vector<Place>& slots,
                          const std::vector<Seven>& fields, const std::vector<Sizes>& matrices, const std::vector<Two>& sums,
                          const std::vector<int32_t>& cleared, int32_t arrays, bool backward, bool is_double) {
        new (self) Program(made(instructions, slots, fields, matrices, sums, cleared, arrays, backward, is_double));
      }, nb::arg("instructions"), nb::arg("slots"), nb::arg("fields"), nb::arg("matrices"), nb::arg("sums"),
         nb::arg("cleared"), nb::arg("arrays"), nb::arg("backward"), nb::arg("is_double"))
      .def("run", &run, nb::arg("steps"), nb::arg("rows"), nb::arg("threads"), nb::arg("from_the_end"), nb::arg("arrays"),
           nb::arg("panels"), nb::arg("valid"), nb::arg("resets"), nb::arg("more_resets"),
           "Runs it. An array is three numbers: its address, and how far its steps and its rows lie apart.");

  module.def("packed_size", &recurra::packed_size, nb::arg("is_double"), nb::arg("rows"), nb::arg("columns"),
             nb::arg("transposed"), "The numbers that a matrix, or its transpose, takes in panels.");
  module.def("pack", &pack, nb::arg("is_double"), nb::arg("all"), nb::arg("threads"),
             "Puts matrices into panels: (address, rows, columns, numbers from row to row, transposed, address of the panels).");

  add_stream(module);
}
