// The instruction sets that the recurrence was compiled for, and the one that runs.
#pragma once
#include <vector>

#include "recurrence.hpp"

namespace recurra {

struct InstructionSet {
  const Kernels* kernels;
  bool runs_here;  // whether this processor, and the system on it, has it
};

// Every set that was built, from the plainest to the widest.
const std::vector<InstructionSet>& instruction_sets();

// The kernels that run: those of the widest set that this processor has, or of the one that the environment variable
// RECURRA_ISA names. Settled at the first call. Throws std::invalid_argument where RECURRA_ISA names a set that was not
// built or that this processor does not have.
const Kernels& kernels();

}  // namespace recurra
