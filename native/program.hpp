// A program and how it is called: what module.cpp hands to Python.
#pragma once
#include <cstdint>
#include <vector>

#include "recurrence.hpp"

namespace recurra {

// A program, made once for a cell and a hidden_size; it holds no numbers of its own.
class Program {
 public:
  std::vector<Instruction> instructions;
  std::vector<Slot> slots;
  std::vector<Field> fields;
  std::vector<Matrix> matrices;
  std::vector<Sum> sums;
  std::vector<int32_t> cleared;  // slots, -1 at the end
  int32_t array_count = 0;
  bool backward = false;
  bool is_double = false;
};

struct Call {
  int32_t steps, rows, threads;
  bool from_the_end;
  std::vector<Array> arrays;
  std::vector<const void*> panels;  // of each matrix
  const uint8_t* valid;
  const uint8_t* resets;
  bool more_resets;
};

// Runs a program; its sums, over all threads, are added to their arrays.
void run(const Program& program, const Call& call);

// The numbers that a matrix takes in panels, and the panels themselves.
int64_t packed_size(bool is_double, int32_t rows, int32_t columns, bool transposed);

void pack(bool is_double, const std::vector<Packing>& all, int32_t threads);

}  // namespace recurra
