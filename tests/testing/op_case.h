#pragma once
// One description of an op's test, run on every executor there is.
//
// To test an op: add an OpCase to the list of its family (tests/kernels/cases_*.cpp). That is all;
// the runner makes the data, poisons what is written, and compares:
//   gradient   cpu f64: backward against central differences of forward, random cotangent
//   reference  cpu f64: forward against the loops given in the case
//   precision  cpu f32 against cpu f64; equal bytes over two runs and over thread counts
//   emulated   the CUDA kernels on the CPU in both warp orders, against cpu f64
//   cuda       the same on a GPU
// On every executor: outputs poisoned, gradients overwritten over NaN, accumulated over noise and
// ignored, guard bands intact, NaN in fresh memory and beside strided rows, inputs unchanged, in
// place where allowed.
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "tests/testing/compare.h"

namespace realfake::testing {

// Where the values of an input come from. All are rounded to float, so that every dtype sees the
// same.
struct Fill {
  enum Kind {
    normal_values,    // a + b * normal
    uniform_values,   // [a, b)
    integer_values,   // a, a+1, ..., b
    distinct_values,  // a * (k + 1/2), shuffled, both signs: no two closer than a, none closer than
                      // a/2 to 0
    row_probabilities,  // positive, rows sum to 1
    given_values,       // `list`, repeated
  } kind = normal_values;
  double a = 0, b = 1;
  Numbers list = {};
};
inline Fill normal(double scale = 1, double mean = 0) {
  return {Fill::normal_values, mean, scale, {}};
}
inline Fill uniform(double low, double high) {
  return {Fill::uniform_values, low, high, {}};
}
inline Fill integers(double low, double high) {
  return {Fill::integer_values, low, high, {}};
}
inline Fill distinct(double step) {
  return {Fill::distinct_values, step, 0, {}};
}
inline Fill probabilities() {
  return {Fill::row_probabilities, 0, 0, {}};
}
inline Fill given(Numbers list) {
  return {Fill::given_values, 0, 0, std::move(list)};
}

struct Input {
  Shape shape;
  Fill fill = normal();
  bool gradient = false;       // backward gives one
  DType dtype = DType::f32;    // f32 stands for T: f64 where the run is in f64
  double reduction = 0;        // of the gradient; 0: the case's
  double magnitude = 0;        // of the gradient (Limit)
  bool zero_gradient = false;  // it vanishes by the formula, not by mistake
  bool dense = false;          // strided() leaves it alone
  bool strided = false;        // rows further apart than long; the gradient's too
};

struct Output {
  Shape shape;
  bool cotangent = true;     // takes part in the loss of the gradient check
  DType dtype = DType::f32;  // f32 stands for T
  bool exact = false;        // bit-equal on every executor; integers always are
  double reduction = 0;
  double magnitude = 0;
  int start = -1;  // starts as a copy of this input (read and written), instead of poison
  bool dense = false;
  bool strided = false;
};

using Tensors = std::vector<Tensor>;

struct OpCase {
  std::string name;  // letters, digits, _
  std::vector<Input> inputs = {};
  std::vector<Output> outputs = {};
  std::function<void(Exec&, const Tensors& out, const Tensors& in)> forward = {};
  // grad has one entry per input (ignored where none is given); dout one per output.
  std::function<void(Exec&, const std::vector<GradOut>& grad, const Tensors& in, const Tensors& out,
                     const Tensors& dout)>
      backward = {};
  // Forward by plain loops, independent of kernels/; an empty entry is not compared.
  std::function<std::vector<Numbers>(const std::vector<Numbers>& in)> reference = {};
  // Where the gradient is not that of forward (something is held constant): the loss to
  // differentiate, of output 0's value, given the inputs and the point at which constants are
  // taken.
  std::function<double(const std::vector<Numbers>& in, const std::vector<Numbers>& base)>
      held_loss = {};
  double reduction = 1;   // longest sum behind one value
  double c = 8;           // at most 8
  bool in_place = false;  // out[0] may be in[0]
  bool library = false;   // done by a library: equal bytes only for equal thread counts
  double step = 1e-5;     // of the central differences
};

void PrintTo(const OpCase& c, std::ostream* os);  // for gtest

// The same case with strided rows in every floating tensor of rank >= 2.
OpCase strided(OpCase c);
// The case and its strided twin.
std::vector<OpCase> with_strided(const std::vector<OpCase>& cases);

// Each returns what went wrong, one line per finding; empty is good. Every line ends with the seed.
using Findings = std::vector<std::string>;
Findings check_gradients(const OpCase& c);
Findings check_reference(const OpCase& c);
Findings check_precision(const OpCase& c);
Findings check_executor(const OpCase& c,
                        Device device);    // emulated or cuda; one Exec, as it is set up
Findings check_emulated(const OpCase& c);  // check_executor in both warp orders

// Building blocks, for tests of other kinds.
uint64_t seed_of(const std::string& name);
Numbers make_values(const Fill& fill, const Shape& shape, DType dtype, uint64_t seed);
// A tensor, and the buffer around it: wider rows with NaN margins when strided, else the tensor
// itself.
struct Placed {
  Tensor view, whole;
  bool margins_intact(Exec& exec) const;
};
Placed place(Exec& exec, const Numbers& values, const Shape& shape, DType dtype, bool strided);
inline Tensor upload(Exec& exec, const Numbers& values, const Shape& shape, DType dtype) {
  return place(exec, values, shape, dtype, false).view;
}
Numbers download(Exec& exec, const Tensor& t);
Exec& exec_of(Device device);  // one per device, kept

}  // namespace realfake::testing
