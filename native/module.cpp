// recurra._native: the compiled core as Python sees it. src/recurra/_native.pyi says the same in types.
#include <nanobind/nanobind.h>

#include "instruction_sets.hpp"

namespace nb = nanobind;

NB_MODULE(_native, module) {
  module.doc() = "The compiled core: runs the program of any recurrent cell along time. See recurra.engine.native.";

  module.def("instruction_sets", [] {
    nb::dict sets;
    for (const recurra::InstructionSet& set : recurra::instruction_sets()) sets[set.kernels->name] = set.runs_here;
    return sets;
  }, "Every instruction set that the core was built for, from the plainest to the widest, and whether this processor has it.");

  // std::invalid_argument becomes ValueError.
  module.def("chosen", [] { return recurra::kernels().name; },
             "The instruction set that runs: the widest that this processor has, or what RECURRA_ISA names.");
}
