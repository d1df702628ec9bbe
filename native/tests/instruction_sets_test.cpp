// The choice of an instruction set, made by several threads at once.
#include "instruction_sets.hpp"

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

int faults = 0;

void check(bool right, const char* what) {
  if (right) return;
  std::cerr << "failed: " << what << "\n";
  ++faults;
}

}  // namespace

int main() {
  const std::vector<recurra::InstructionSet>& sets = recurra::instruction_sets();
  check(!std::strcmp(sets[0].kernels->name, "baseline"), "the plainest set comes first");
  check(sets[0].runs_here, "the plainest set runs everywhere");

  // A choice that cannot be made is no choice: the next one is free.
  setenv("RECURRA_ISA", "abacus", 1);
  try {
    recurra::kernels();
    check(false, "an unknown name is an error");
  } catch (const std::invalid_argument& error) {
    check(std::strstr(error.what(), "abacus") && std::strstr(error.what(), "baseline"), "the error names both");
  }
  unsetenv("RECURRA_ISA");

  std::vector<const recurra::Kernels*> chosen(8);
  std::vector<std::thread> threads;
  for (auto& kernels : chosen) threads.emplace_back([&kernels] { kernels = &recurra::kernels(); });
  for (auto& thread : threads) thread.join();
  const recurra::Kernels* widest = nullptr;
  for (const auto& set : sets)
    if (set.runs_here) widest = set.kernels;
  for (const auto* kernels : chosen) check(kernels == widest, "every thread runs the widest set");

  setenv("RECURRA_ISA", "baseline", 1);
  check(&recurra::kernels() == widest, "the choice is made once");
  return faults != 0;
}
