// What runs a cell's program along time: the same for every cell, every number type and every instruction set.
//
// A program is a list of instructions on slots. A slot is a block of rows of one value: scratch, a step of an array, a
// state, a parameter. Each thread takes some rows of the batch through all steps, a tile of rows at a time, so no thread
// ever waits for another; and what an instruction writes is still in the first-level cache when the next one reads it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "threads.hpp"

namespace recurra {

enum class Op : int32_t {
  // on each number of a row by itself
  add, sub, mul, div, neg, abs, sign, floor, exp, log, sqrt, rsqrt, sin, cos, tanh, sigmoid, relu, softplus, log_sigmoid,
  pow, remainder, maximum, minimum, lt, le, gt, ge, eq, ne, where, fma, fnma,
  tanh_slope, sigmoid_slope,  // a (1 - b b) and a b (1 - b)
  copy,
  // on whole rows
  broadcast,   // d, of any width, from a, of width 1
  move,        // d = a, whatever lies between their rows
  row_sum,     // d, of width 1: the sum over a row of a, and of d before where aux is 1
  row_dot,     // likewise of a times b
  accumulate,  // the sum over rows and steps of a is added to sum number aux
  product,     // d = a times matrix number aux, and c where it is given
};

struct Instruction {
  Op op;
  int32_t d, a, b, c;  // slots; -1 for none
  int32_t aux;
};

enum class Kind : int32_t {
  scratch,
  stream,  // one step of an array (T, B, width), or some columns of it
  old,     // the step before, of an array (T, B, width); before the first step, an array (B, width)
  carry,   // an array (B, width) that goes from step to step
  number,
  vector,  // an array (width,), the same for every row
};

struct Slot {
  Kind kind;
  int32_t width;
  int32_t array;  // which array
  int32_t first;  // old: which array holds what stands before the first step
  int32_t column;  // stream: the first of its columns
  double number;
};

// An array as it is handed over. Numbers of a row lie side by side; where the next row does not follow at once, only
// `move` and `product` may read or write it.
struct Array {
  void* data;
  int64_t step, row;  // from one step, and from one row, to the next, in numbers
};

// A matrix in panels (see pack): (columns of the operand, width of the result), in as many blocks along the diagonal.
struct Matrix {
  int32_t operand, width, blocks;
};

// One field of the state, for masks and resets.
struct Field {
  int32_t width;
  int32_t states;    // array (T, B, width) of the new state; forward only
  int32_t initial;   // array (B, width): what a reset sets the state to
  int32_t old_slot;  // the slot of the old state, or -1
  int32_t carry;     // array (B, width) of the gradient that is carried; backward only
  int32_t given;     // array (T, B, width) of the gradient given at every step, or of nothing; backward only
  int32_t of_reset;  // array (B, width) to which the gradient of what resets set is added; backward only
};

struct Sum {
  int32_t width;
  int32_t array;  // array (width,)
};

struct Job {
  int32_t steps, rows;
  bool from_the_end;  // time runs from the last step to the first
  bool backward;      // the program is a derivative: steps are taken in the opposite order
  const Instruction* instructions;
  int32_t instruction_count;
  const Slot* slots;
  int32_t slot_count;
  const Array* arrays;
  const Matrix* matrices;
  int32_t matrix_count;
  const void* const* panels;  // of each matrix
  const Field* fields;
  int32_t field_count;
  const Sum* sums;
  int32_t sum_count;
  const uint8_t* valid;   // (T, B), 0 where a step is not taken; or null
  const uint8_t* resets;  // (T, B), 1 where the state is set anew before a step; or null
  bool more_resets;       // whether those of one more step follow: time goes on behind the last step
  bool tidy;              // backward: gradients given at steps that are not taken are of no account
  const int32_t* cleared;  // slots of arrays that are zero where a step is not taken; -1 at the end
};

// For steps taken one at a time (see stream.hpp): nothing is made anew for a step.
struct Stepping {
  void* (*open)(const Job&, void* sums);  // holds all rows of a job ready; the job, and what it names, must stay where they are
  void (*read_vectors)(void* opened);  // anew, where they have moved since
  void (*run)(void* opened);
  bool (*is_shared)(const Job&);  // whether a team of threads can share out the units of a program
  void (*run_in_team)(void* opened, int32_t part, int32_t parts, Barrier& barrier);
  void (*close)(void* opened);
  // Some rows of A times a matrix in panels, and what is added, whose rows may all be one.
  void (*multiply)(int32_t rows, const void* A, int32_t a_stride, const void* panels, int32_t operand, int32_t width, void* C,
                   int32_t c_stride, const void* added, int32_t added_stride);
};

// A matrix that is put into panels.
struct Packing {
  const void* matrix;
  int32_t rows, columns, stride;  // stride: from row to row
  bool transposed;
  void* panels;
};

// The sum over rows of what stands in a row of D times what stands in that of V: out (width, columns) = D^T V.
struct Outer {
  const void *d, *v;
  void* out;
  int32_t rows, width, columns;  // of D and V; of D; of V
  int64_t d_stride, v_stride, out_stride;  // from row to row
  bool adds;  // to what stands in out
};

struct Carrying;  // see influence.hpp

// What is compiled once for each instruction set.
struct Kernels {
  const char* name;
  int32_t panel_f32, panel_f64;  // columns of a panel
  void (*run_f32)(const Job&, int32_t first_row, int32_t last_row, void* sums);
  void (*run_f64)(const Job&, int32_t first_row, int32_t last_row, void* sums);
  void (*pack_f32)(const Packing& packing, int32_t first_panel, int32_t last_panel);
  void (*pack_f64)(const Packing& packing, int32_t first_panel, int32_t last_panel);
  void (*outer_f32)(const Outer& outer, int32_t part, int32_t parts);
  void (*outer_f64)(const Outer& outer, int32_t part, int32_t parts);
  Stepping step_f32, step_f64;
  const Carrying *carrying_f32, *carrying_f64;
};

}  // namespace recurra
