#pragma once
// What the parts of `bench` share: timing, the ops with their shapes, the networks with their
// presets.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace realfake::bench {

struct Times {
  std::vector<double> seconds;  // of one call each, in ascending order
  double median() const;
  double min() const { return seconds.front(); }
  // Between the tenth and the ninetieth percent, relative to the median.
  double spread() const;
};

// Warms up with at least `warm_up` calls and, for calls that are short, 0.1 s of them; then takes
// `runs` samples, or, when `runs` is 0, as many as fit into about 0.4 s, from 5 to 50. A sample is
// as many calls as take a millisecond; the device is waited for at its end.
Times measure(Exec& exec, int64_t runs, int64_t warm_up, const std::function<void()>& call);

// NumericError naming `what` when an element is not finite.
void check_finite(Exec& exec, const std::string& what, const Tensor& x);

// Values ~ N(0,1), the same in every run.
Tensor random_tensor(Exec& exec, const Shape& shape, uint64_t seed);

// ---- ops

// One call, ready to run, with what it costs and writes.
struct Work {
  OpCost cost;
  std::function<void()> run;
  std::vector<Tensor> outputs;
};

using Numbers = std::vector<int64_t>;  // the letters of a shape, in order

struct Op {
  std::string name, letters;    // "N,H,W,C"
  std::vector<Numbers> shapes;  // of SD 1.5 and ResNet-50
  std::function<Work(Exec&, const Numbers&)> make;
  size_t rank() const;  // how many letters
};

const std::vector<Op>& ops();

// "2x64x64x320"; UsageError when it does not fit the op's letters.
Numbers parse_shape(const Op& op, const std::string& text);
std::string shape_text(const Numbers& shape);

// What this machine can do, by this program's own copy and product.
struct Roof {
  double copy_gb_s = 0, gemm_gflop_s = 0;
  double seconds(const OpCost& cost) const;  // the least time for this work
};
Roof measure_roof(Exec& exec);

// ---- networks

const std::vector<std::string>& network_names();

// A network with random weights and one step of it. `step` returns what must be finite.
struct Network {
  std::function<Tensor()> step;
  int64_t size = 0;       // as it was asked for, or the preset's
  std::string size_unit;  // "latents", "pixels", "tokens"
  std::shared_ptr<void> owner;
};

// size 0: the preset's own.  UsageError.
Network make_network(Exec& exec, const std::string& name, const std::string& preset, int64_t batch,
                     int64_t size);

}  // namespace realfake::bench
