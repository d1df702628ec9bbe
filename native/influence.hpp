// The influence of a layer's parameters on its state, carried from step to step: J = D J + I, for each row of a batch (see
// src/recurra/engine/influence.py and tangent.py, which say what D and I are made of).
//
// A plan names everything by number: what numbers the matrices are made of, in what order they are made, which columns of
// J belong to which parameters and what these do to the new state at once. It is made once for a layer and a batch.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "program.hpp"

namespace recurra {

constexpr int32_t kPast = 16;  // steps that an influence is carried over at once, at the most
constexpr int32_t kFull = 16;  // numbers that are a whole number of vectors of every instruction set and type

// The numbers of one value of the program, a row of them for each row of the batch.
struct Coefficient {
  int32_t array;     // of the program, or -1
  const void* data;  // where there is no array
  int32_t row;       // numbers from row to row of the batch; 0 where all rows have the same
  int32_t along;     // 1, or 0 where one number stands for all of a row
};

struct Square {
  const void* data;  // of a parameter; null where it is made
  int32_t rows, columns, stride;
};

enum class Make : int32_t {
  row,       // matrix d, of one row, from coefficient a
  column,    // matrix d, of one column, from coefficient a
  rows,      // matrix d = diag(a) b
  columns,   // matrix d = b diag(a)
  product,   // matrix d = a b
  copy,      // matrix d = b
  numbers,   // vector d = coefficient a
  diagonal,  // vector d = what stands on the diagonal of b, times the numbers of coefficients a and aux (-1: none)
  dot,       // vector d = the diagonal of the product of a and b, times the numbers of coefficient aux
};

struct Making {
  Make make;
  int32_t d, a, b, aux;
  bool adds;  // to what is there
};

// Some numbers of a row of a matrix that go to a row of another.
struct Copied {
  int32_t matrix, row, column, to_row, to_column, count;
};

// A number of a row's J that another one is multiplied with and added to; or one of what a unit's parameters do at once.
struct Single {
  int32_t row, from, coefficient, number;
};

// What a site's parameters multiply, (1 or units, columns).
struct Inputs {
  struct Piece {
    int32_t coefficient;  // -1: x; -2: one
    int32_t column, count;
    int32_t share;  // 0: all units alike; else so many units in a row have `count` numbers of their own of it
  };
  int32_t units, columns;  // units: 1 where all have the same
  std::vector<Piece> pieces;
};

// Columns of J that belong to units of one site.
struct Member {
  int32_t site, first, units, columns;  // first: the first column; columns of each unit, in an `own` group filled up to kFull
  std::vector<int32_t> numbers;         // which units of the site, in order
  std::vector<Single> singles;          // row, unit (of these), coefficient, number
  std::vector<Copied> copied;           // what they do at once, (rows, units), where that is no diagonal
  std::vector<int32_t> vectors;         // own: for each row of J, the vector of what they do at once, or -1
};

// Parameters that reach the same numbers of the state, together.
struct Group {
  bool own;  // each unit reaches its own number alone, in each of `rows` parts
  int32_t rows, columns;
  std::vector<int32_t> numbers;  // of the state, for each row; own: the first of each part
  std::vector<int32_t> from;     // the rows of J that a matrix multiplies
  std::vector<Copied> copied;    // that matrix, (rows, from)
  std::vector<Single> singles;   // row, from which row, coefficient, number
  std::vector<int32_t> vectors;  // own: for each pair of rows, the vector between them, or -1
  std::vector<Member> members;
};

// Units of a site where x enters, and the rows of W that it is multiplied with there: what the gradient by x is made of.
struct Through {
  int32_t group, member;
  const void* W;  // of the site's first unit
};

// Which columns of what was collected are the gradient of which numbers of a parameter.
struct Giving {
  int32_t group, member, column, columns;  // of each unit's columns, from which on, and how many
  int32_t parameter;
  int64_t first, stride;  // of the parameter: where the site's first unit begins, and from unit to unit
};

struct Plan {
  bool is_double;
  int32_t rows, threads;
  int32_t most;  // steps that may wait to be carried at once, kPast at the most
  const Program* program;
  std::vector<Array> arrays;
  std::vector<Layout::Packed> packed;  // of the program's matrices; addresses count `addresses`
  std::vector<uintptr_t> addresses;
  std::vector<const void*> panels;
  struct Part {
    int32_t width, states, begun;
  };
  std::vector<Part> parts;
  int32_t outputs, input, z, width;  // parts that are put out; numbers of x, the array of z, and its width
  struct Net {  // net inputs of one gate: W x, U h or both, with biases
    int32_t first, count;
    const void *W, *U;
    const void* biases[2];
  };
  std::vector<Net> nets;
  std::vector<Coefficient> coefficients;
  std::vector<Square> squares;
  std::vector<int32_t> vectors;  // their widths
  std::vector<Making> makings;   // what is made for each row of the batch, in this order
  std::vector<Inputs> inputs;    // of each site
  std::vector<Group> groups;
  std::vector<Through> through;
  std::vector<Giving> giving;
};

// Steps of one row of the batch over which a group's influence is not carried yet: what they do to it, and what losses gave.
// Of an `own` group D and E are vectors of `width` numbers, the units and zeros behind them; of another, D is the matrix
// between all rows and those of `from`, and E what is copied for a member.
struct Past {
  int32_t steps, width;
  bool told;                   // whether there was a loss
  const void* D;               // own: (steps, rows, rows, width); else (steps, rows, from)
  const void* between;         // (steps, singles of the group), their numbers
  const void* delta;           // (steps, rows, width), width 1 where units do not go by themselves
  const void* const* E;        // of each member: own (steps, rows, width); else (steps, rows, units), or null
  const void* const* at_once;  // of each member, (steps, its singles), their numbers
  const void* const* inputs;   // of each member, (steps, units or 1, columns of its site)
};

// The products of the matrices of all steps behind each, for a group whose rows mix.
struct Products {
  void* whole;    // (rows + 1, rows): over all steps; the last row is what the losses make of the influence before them
  void* each;     // (steps, rows, stride): over the steps behind each, transposed
  void* errors;   // (steps, rows): of the losses from each on
  int32_t stride;
};

// What is compiled for each instruction set.
struct Place {  // of a row of the batch, while it is worked on
  const Plan* plan;
  const void* const* coefficients;  // where the row's numbers begin
  void* const* squares;
  void* const* vectors;
  void* const* inputs;
};
struct Carrying {
  void (*net)(const Plan::Net& net, int32_t begin, int32_t end, int32_t input, int32_t output, const void* x, const void* h, void* z);
  void (*make)(const Place& place, const Making& making);
  void (*bring)(const Place& place, const Inputs& inputs, const void* x, void* to);
  void (*gather)(const Place& place, const std::vector<Single>& singles, void* to);
  void (*multiply)(const Group& group, const Past& past, const Products& products);
  // Carries columns [begin, end) of a row's J, whose rows lie `stride` numbers apart, over all steps of `past`, and adds
  // what losses gave to `sums`.
  void (*settle)(const Place& place, const Group& group, const Past& past, const Products& products, void* J, int64_t stride,
                 int32_t begin, int32_t end, void* sums, void* scratch);
  void (*collect)(const Group& group, const void* delta, const void* J, int64_t stride, int32_t begin, int32_t end, void* sums);
  void (*add)(int32_t count, const void* from, void* to);
  void (*back)(const Place& place, const Group& group, const Member& member, const void* E, const void* W, int32_t input,
               const void* delta, void* below);
  void (*give)(const Giving& giving, const Member& member, const void* sums, void* gradient);
};

class Influence {
 public:
  explicit Influence(Plan plan);
  ~Influence();
  Influence(const Influence&) = delete;
  Influence& operator=(const Influence&) = delete;

  // Takes a step: x is (rows, input), y (rows, output). `taken`, one for each row, or null for all.
  void advance(const void* x, void* y, const uint8_t* taken);

  // Adds what a loss gives: delta is (rows, S), its gradient by the new state. `below`, (rows, input), or null.
  void collect(const void* delta, void* below);

  const Plan& plan() const { return plan_; }
  void* state(int32_t part);
  void* influence(int32_t group, int64_t* stride);  // (rows, rows of the group, stride)

  // Adds what was collected to the gradients of the parameters; it is zero from then on.
  void give(void* const* gradients);

 private:
  struct Held;
  Plan plan_;
  std::unique_ptr<Held> held_;
  void assemble(int32_t row);
  void remember(const Place& place, int32_t row);
  void settle();  // carries the influence over the steps that it was not carried over yet
};

}  // namespace recurra
