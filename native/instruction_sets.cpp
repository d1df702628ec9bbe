// Which of the compiled instruction sets runs, found out at run time.
#include "instruction_sets.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace recurra {

namespace baseline {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}

const std::vector<InstructionSet>& instruction_sets() {
  // The questions are those of the flags in CMakeLists.txt; the answers count in what the operating system keeps.
  static const std::vector<InstructionSet> built = {
    {&baseline::kernels, true},
#ifdef RECURRA_HAS_AVX2
    {&avx2::kernels, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
#ifdef RECURRA_HAS_AVX512
    {&avx512::kernels, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("fma")},
#endif
  };
  return built;
}

namespace {

std::string names(bool only_here) {
  std::string text;
  for (const InstructionSet& set : instruction_sets())
    if (set.runs_here || !only_here) text += (text.empty() ? "" : ", ") + std::string(set.kernels->name);
  return text;
}

const Kernels* choose() {
  const char* wanted = std::getenv("RECURRA_ISA");
  const Kernels* widest = nullptr;
  for (const InstructionSet& set : instruction_sets()) {
    if (set.runs_here) widest = set.kernels;
    if (!wanted || !*wanted || std::string(wanted) != set.kernels->name) continue;
    if (set.runs_here) return set.kernels;
    throw std::invalid_argument("RECURRA_ISA=" + std::string(wanted) +
                                ": this processor does not have that instruction set; it runs " + names(true));
  }
  if (wanted && *wanted)
    throw std::invalid_argument("RECURRA_ISA=" + std::string(wanted) +
                                ": there is no such instruction set in this build; built are " + names(false));
  return widest;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels* const chosen = choose();
  return *chosen;
}

}  // namespace recurra
