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
  bool tidy = false;  // see Job
};

// Where what a program needs lies in what a call is given: made once for the sizes of a batch, so that a call brings no
// more than addresses. Offsets count numbers.
class Layout {
 public:
  struct Place {
    int32_t address;  // which of those given; -1 for none
    int64_t offset;
  };
  struct Route : Place {  // of an array
    bool moves;           // with the step at which a call begins
    int64_t step, row;
  };
  struct Packed {  // a matrix, or a block of one, that is put into panels
    Place from, to;
    int32_t rows, columns, stride;
    bool transposed;
  };
  struct Last {  // the state behind the last step of a call
    int32_t array;
    Place to;
    int64_t numbers;
  };
  struct Product {  // a sum of outer products, made when the program has run
    Place d, v, out;
    Outer outer;
  };

  const Program* program = nullptr;
  int32_t rows = 0, addresses = 0;
  std::vector<Route> arrays;
  std::vector<Packed> packed;
  std::vector<Place> panels;
  std::vector<Last> last;
  std::vector<Product> products;
  int32_t product_threads = 1;
  bool tidy = false;  // see Job
};

// A call that a layout describes; returns the seconds that the recurrence alone took.
struct Start {
  int32_t step, steps, threads;
  bool from_the_end, packs;
  const uint8_t* valid;
  const uint8_t* resets;
  bool more_resets;
};
double run(const Layout& layout, const std::vector<int64_t>& addresses, const Start& start);

// Runs a program; its sums, over all threads, are added to their arrays.
void run(const Program& program, const Call& call);

// The numbers that a matrix takes in panels, and the panels themselves.
int64_t packed_size(bool is_double, int32_t rows, int32_t columns, bool transposed);

void pack(bool is_double, const std::vector<Packing>& all, int32_t threads);

// Sums of outer products, one after another.
void outer(bool is_double, const std::vector<Outer>& all, int32_t threads);

}  // namespace recurra
