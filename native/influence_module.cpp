// recurra._native.Influence: influences as Python sees them. src/recurra/_native.pyi says the same in types.
#include "influence_module.hpp"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "influence.hpp"

namespace nb = nanobind;
using recurra::Influence;
using recurra::Plan;

namespace {

using Ints = std::vector<int32_t>;
using Given = std::tuple<uintptr_t, int32_t>;
using Net = std::tuple<int32_t, int32_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t>;
using Coefficient = std::tuple<int32_t, uintptr_t, int32_t, int32_t>;
using Square = std::tuple<uintptr_t, int32_t, int32_t, int32_t>;
using Making = std::tuple<int32_t, int32_t, int32_t, int32_t, int32_t, bool>;
using Copied = std::tuple<int32_t, int32_t, int32_t, int32_t, int32_t, int32_t>;
using Single = std::tuple<int32_t, int32_t, int32_t, int32_t>;
using Piece = std::tuple<int32_t, int32_t, int32_t, int32_t>;
using Inputs = std::tuple<int32_t, int32_t, std::vector<Piece>>;
using Member = std::tuple<int32_t, int32_t, int32_t, int32_t, Ints, std::vector<Single>, std::vector<Copied>, Ints>;
using Group = std::tuple<bool, int32_t, int32_t, Ints, Ints, std::vector<Copied>, std::vector<Single>, Ints, std::vector<Member>>;
using Through = std::tuple<int32_t, int32_t, uintptr_t>;
using Giving = std::tuple<int32_t, int32_t, int32_t, int32_t, int32_t, int64_t, int64_t>;
using Packed = std::tuple<int32_t, int64_t, int32_t, int64_t, int32_t, int32_t, int32_t, bool>;
using Part = std::tuple<int32_t, int32_t, int32_t>;

const void* pointer(uintptr_t address) { return reinterpret_cast<const void*>(address); }

void expect(bool right, const char* what) {
  if (!right) throw std::invalid_argument(std::string("a plan of influences: ") + what);
}

std::vector<recurra::Copied> copied(const std::vector<Copied>& all) {
  std::vector<recurra::Copied> found;
  for (const auto& [matrix, row, column, to_row, to_column, count] : all)
    found.push_back({matrix, row, column, to_row, to_column, count});
  return found;
}

std::vector<recurra::Single> singles(const std::vector<Single>& all) {
  std::vector<recurra::Single> found;
  for (const auto& [row, from, coefficient, number] : all) found.push_back({row, from, coefficient, number});
  return found;
}

std::vector<recurra::Making> makings(const std::vector<Making>& all) {
  std::vector<recurra::Making> found;
  for (const auto& [make, d, a, b, aux, adds] : all) found.push_back({static_cast<recurra::Make>(make), d, a, b, aux, adds});
  return found;
}

Plan planned(const recurra::Program& program, int32_t rows, int32_t threads, int32_t most, const std::vector<Given>& arrays,
             const std::vector<Packed>& packed, const std::vector<uintptr_t>& addresses, const std::vector<uintptr_t>& panels,
             const std::vector<Part>& parts, const Ints& sizes, const std::vector<Net>& nets,
             const std::vector<Coefficient>& coefficients, const std::vector<Square>& squares, const Ints& vectors,
             const std::vector<Making>& made, const std::vector<Inputs>& inputs,
             const std::vector<Group>& groups, const std::vector<Through>& through, const std::vector<Giving>& giving) {
  Plan p;
  p.is_double = program.is_double;
  p.rows = rows;
  p.threads = threads;
  p.most = most;
  expect(most > 0 && most <= recurra::kPast, "another number of steps that wait than can be carried at once");
  p.program = &program;
  expect(rows > 0 && int32_t(arrays.size()) == program.array_count && panels.size() == program.matrices.size(),
         "other numbers of arrays or matrices than its program has");
  expect(program.sums.empty() && !program.backward, "a program that is no step");
  expect(sizes.size() == 4 && !parts.empty() && sizes[0] > 0 && size_t(sizes[0]) <= parts.size(), "no state");
  p.outputs = sizes[0], p.input = sizes[1], p.z = sizes[2], p.width = sizes[3];
  const auto is_array = [&](int32_t k) { return k >= 0 && k < program.array_count; };
  expect(is_array(p.z), "no such array");
  for (const auto& [address, row] : arrays) p.arrays.push_back({reinterpret_cast<void*>(address), 0, row});
  p.addresses = addresses;
  for (const auto& [from, from_offset, to, to_offset, height, columns, stride, transposed] : packed) {
    expect(from >= 0 && size_t(from) < addresses.size() && to >= 0 && size_t(to) < addresses.size(), "no such address");
    p.packed.push_back({{from, from_offset}, {to, to_offset}, height, columns, stride, transposed});
  }
  for (const uintptr_t address : panels) p.panels.push_back(pointer(address));
  for (const auto& [width, states, begun] : parts) {
    expect(width > 0 && is_array(states) && is_array(begun), "no such array");
    p.parts.push_back({width, states, begun});
  }
  for (const auto& [first, count, W, U, b, c] : nets) {
    expect((W || U) && first >= 0 && first + count <= p.width, "net inputs that are not there");
    p.nets.push_back({first, count, pointer(W), pointer(U), {pointer(b), pointer(c)}});
  }
  for (const auto& [array, data, row, along] : coefficients) {
    expect(array < 0 ? data != 0 : is_array(array), "a coefficient that is not there");
    p.coefficients.push_back({array, pointer(data), row, along});
  }
  for (const auto& [data, height, columns, stride] : squares) p.squares.push_back({pointer(data), height, columns, stride});
  p.vectors = vectors;
  p.makings = makings(made);
  for (const auto& [units, columns, pieces] : inputs) {
    recurra::Inputs found{units, columns, {}};
    for (const auto& [coefficient, column, count, share] : pieces) found.pieces.push_back({coefficient, column, count, share});
    p.inputs.push_back(std::move(found));
  }
  for (const auto& [own, height, columns, numbers, from, matrix, one, between, members] : groups) {
    expect(height > 0 && columns > 0 && (!own || height <= 4), "a group that cannot be carried");
    recurra::Group group{own, height, columns, numbers, from, copied(matrix), singles(one), between, {}};
    for (const auto& [site, first, units, width, which, at_once, matrix_at_once, of_rows] : members) {
      expect(site >= 0 && size_t(site) < inputs.size() && first >= 0 && first + units * width <= columns, "no such columns");
      expect(!own || (width % recurra::kFull == 0 && first % recurra::kFull == 0), "columns that are no whole number of vectors");
      group.members.push_back({site, first, units, width, which, singles(at_once), copied(matrix_at_once), of_rows});
    }
    p.groups.push_back(std::move(group));
  }
  for (const auto& [group, member, W] : through) {
    expect(group >= 0 && size_t(group) < groups.size() && member >= 0 && size_t(member) < p.groups[group].members.size() && W,
           "no such units");
    p.through.push_back({group, member, pointer(W)});
  }
  for (const auto& [group, member, column, width, parameter, first, stride] : giving) {
    expect(group >= 0 && size_t(group) < groups.size() && member >= 0 && size_t(member) < p.groups[group].members.size() && parameter >= 0,
           "no such units");
    p.giving.push_back({group, member, column, width, parameter, first, stride});
  }
  return p;
}

constexpr int64_t kWorthReleasing = 1 << 20;  // numbers of J; fewer are done sooner than other threads could begin

template <typename F>
void without_lock(const Influence& influence, const F& run) {
  int64_t numbers = 0;
  for (const recurra::Group& g : influence.plan().groups) numbers += int64_t(g.rows) * g.columns * influence.plan().rows;
  if (numbers < kWorthReleasing) return run();
  nb::gil_scoped_release release;
  run();
}

size_t bytes(const Influence& influence, int64_t numbers) {
  return size_t(numbers) * (influence.plan().is_double ? sizeof(double) : sizeof(float));
}

// Between J, whose rows lie apart, and numbers side by side.
void copy_influence(Influence& influence, int32_t group, uintptr_t address, bool reads) {
  const recurra::Group& g = influence.plan().groups.at(group);
  int64_t stride;
  char* own = static_cast<char*>(influence.influence(group, &stride));
  char* other = reinterpret_cast<char*>(address);
  const size_t row = bytes(influence, g.columns);
  for (int64_t k = 0; k < int64_t(influence.plan().rows) * g.rows; ++k, own += bytes(influence, stride), other += row)
    reads ? std::memcpy(other, own, row) : std::memcpy(own, other, row);
}

}  // namespace

void add_influence(nb::module_& module) {
  nb::class_<Influence>(module, "Influence", "The influence of a layer's parameters on its state, and the layer's steps.")
      .def("__init__", [](Influence* self, const recurra::Program& program, int32_t rows, int32_t threads,
                          int32_t most, const std::vector<Given>& arrays, const std::vector<Packed>& packed,
                          const std::vector<uintptr_t>& addresses, const std::vector<uintptr_t>& panels,
                          const std::vector<Part>& parts, const Ints& sizes, const std::vector<Net>& nets,
                          const std::vector<Coefficient>& coefficients, const std::vector<Square>& squares, const Ints& vectors,
                          const std::vector<Making>& made, const std::vector<Inputs>& inputs,
                          const std::vector<Group>& groups, const std::vector<Through>& through,
                          const std::vector<Giving>& giving) {
        new (self) Influence(planned(program, rows, threads, most, arrays, packed, addresses, panels, parts, sizes, nets, coefficients,
                                     squares, vectors, made, inputs, groups, through, giving));
      }, nb::keep_alive<1, 2>(), nb::arg("program"), nb::arg("rows"), nb::arg("threads"), nb::arg("most"), nb::arg("arrays"), nb::arg("packed"),
         nb::arg("addresses"), nb::arg("panels"), nb::arg("parts"), nb::arg("sizes"), nb::arg("nets"), nb::arg("coefficients"),
         nb::arg("squares"), nb::arg("vectors"), nb::arg("makings"), nb::arg("inputs"), nb::arg("groups"),
         nb::arg("through"), nb::arg("giving"))
      .def("advance", [](Influence& self, uintptr_t x, uintptr_t y, uintptr_t taken) {
             without_lock(self, [&] {
               self.advance(pointer(x), reinterpret_cast<void*>(y), static_cast<const uint8_t*>(pointer(taken)));
             });
           }, nb::arg("x"), nb::arg("y"), nb::arg("taken"), "Takes a step, and carries the influence over it.")
      .def("collect", [](Influence& self, uintptr_t delta, uintptr_t below) {
             without_lock(self, [&] { self.collect(pointer(delta), reinterpret_cast<void*>(below)); });
           }, nb::arg("delta"), nb::arg("below"), "Adds what a loss gives to the parameters.")
      .def("state", [](Influence& self, int32_t part, uintptr_t address, bool reads) {
             const size_t count = bytes(self, int64_t(self.plan().rows) * self.plan().parts.at(part).width);
             void* const other = reinterpret_cast<void*>(address);
             reads ? std::memcpy(other, self.state(part), count) : std::memcpy(self.state(part), other, count);
           }, nb::arg("part"), nb::arg("address"), nb::arg("reads"), "Copies a part of the state, (rows, width), out or in.")
      .def("influence", &copy_influence, nb::arg("group"), nb::arg("address"), nb::arg("reads"),
           "Copies a group's influence, (rows, rows of the group, columns), out or in.")
      .def("give", [](Influence& self, const std::vector<uintptr_t>& gradients) {
             for (const recurra::Giving& v : self.plan().giving) expect(size_t(v.parameter) < gradients.size(), "no such gradient");
             self.give(reinterpret_cast<void* const*>(gradients.data()));
           }, nb::arg("gradients"), "Adds what was collected to the parameters' gradients; it is zero from then on.");
}
