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

#include "influence_module.hpp"
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
using At = std::tuple<int32_t, int64_t>;
using Route = std::tuple<int32_t, int64_t, bool, int64_t, int64_t>;
using Packed = std::tuple<int32_t, int64_t, int32_t, int64_t, int32_t, int32_t, int32_t, bool>;
using Last = std::tuple<int32_t, int32_t, int64_t, int64_t>;
using Product = std::tuple<At, At, At, int32_t, int32_t, int32_t, int64_t, int64_t, int64_t, bool>;

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

// Where something lies among so many addresses.
recurra::Layout::Place placed(int32_t address, int64_t offset, int32_t addresses) {
  if (address < -1 || address >= addresses)
    throw std::invalid_argument("address " + std::to_string(address) + " of " + std::to_string(addresses));
  return {address, offset};
}

recurra::Layout laid_out(const Program& program, int32_t rows, int32_t addresses, const std::vector<Route>& arrays,
                         const std::vector<Packed>& packed, const std::vector<At>& panels, const std::vector<Last>& last,
                         const std::vector<Product>& products, int32_t product_threads, bool tidy) {
  if (int32_t(arrays.size()) != program.array_count || panels.size() != program.matrices.size())
    throw std::invalid_argument("a program of " + std::to_string(program.array_count) + " arrays and " +
                                std::to_string(program.matrices.size()) + " matrices was given " +
                                std::to_string(arrays.size()) + " and " + std::to_string(panels.size()));
  recurra::Layout layout;
  layout.program = &program;
  layout.rows = rows;
  layout.addresses = addresses;
  layout.product_threads = product_threads;
  layout.tidy = tidy;
  for (const auto& [address, offset, moves, step, row] : arrays)
    layout.arrays.push_back({placed(address, offset, addresses), moves, step, row});
  for (const auto& [from, offset, to, place, number, columns, stride, transposed] : packed)
    layout.packed.push_back({placed(from, offset, addresses), placed(to, place, addresses), number, columns, stride, transposed});
  for (const auto& [address, offset] : panels) layout.panels.push_back(placed(address, offset, addresses));
  for (const auto& [array, address, offset, numbers] : last) {
    if (array < 0 || array >= program.array_count) throw std::invalid_argument("array " + std::to_string(array));
    layout.last.push_back({array, placed(address, offset, addresses), numbers});
  }
  for (const auto& [d, v, out, number, width, columns, d_stride, v_stride, out_stride, adds] : products) {
    const auto at = [&](const At& place) { return placed(std::get<0>(place), std::get<1>(place), addresses); };
    layout.products.push_back({at(d), at(v), at(out),
                               {nullptr, nullptr, nullptr, number, width, columns, d_stride, v_stride, out_stride, adds}});
  }
  return layout;
}

double run(const recurra::Layout& layout, const std::vector<int64_t>& addresses, int32_t step, int32_t steps, int32_t threads,
           bool from_the_end, bool packs, uintptr_t valid, uintptr_t resets, bool more_resets) {
  if (int32_t(addresses.size()) != layout.addresses)
    throw std::invalid_argument(std::to_string(layout.addresses) + " addresses are expected, not " +
                                std::to_string(addresses.size()));
  nb::gil_scoped_release release;
  return recurra::run(layout, addresses, {step, steps, threads, from_the_end, packs, reinterpret_cast<const uint8_t*>(valid),
                                          reinterpret_cast<const uint8_t*>(resets), more_resets});
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
         nb::arg("cleared"), nb::arg("arrays"), nb::arg("backward"), nb::arg("is_double"));

  nb::class_<recurra::Layout>(module, "Layout", "Where what a program needs lies among the addresses that a call is given.")
      .def("__init__", [](recurra::Layout* self, const Program& program, int32_t rows, int32_t addresses,
                          const std::vector<Route>& arrays, const std::vector<Packed>& packed, const std::vector<At>& panels,
                          const std::vector<Last>& last, const std::vector<Product>& products, int32_t product_threads, bool tidy) {
        new (self) recurra::Layout(laid_out(program, rows, addresses, arrays, packed, panels, last, products, product_threads,
                                                tidy));
      }, nb::keep_alive<1, 2>(), nb::arg("program"), nb::arg("rows"), nb::arg("addresses"), nb::arg("arrays"),
         nb::arg("packed"), nb::arg("panels"), nb::arg("last"), nb::arg("products"), nb::arg("product_threads"), nb::arg("tidy"))
      .def("run", &run, nb::arg("addresses"), nb::arg("step"), nb::arg("steps"), nb::arg("threads"), nb::arg("from_the_end"),
           nb::arg("packs"), nb::arg("valid"), nb::arg("resets"), nb::arg("more_resets"),
           "Runs the program over so many steps; returns the seconds that the recurrence took.");

  module.def("packed_size", &recurra::packed_size, nb::arg("is_double"), nb::arg("rows"), nb::arg("columns"),
             nb::arg("transposed"), "The numbers that a matrix, or its transpose, takes in panels.");
  module.def("pack", &pack, nb::arg("is_double"), nb::arg("all"), nb::arg("threads"),
             "Puts matrices into panels: (address, rows, columns, numbers from row to row, transposed, address of the panels).");

  add_influence(module);
  add_stream(module);
}
