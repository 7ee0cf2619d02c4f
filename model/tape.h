#pragma once
// A thin define-by-run tape. Networks write forward only; each function of functions.h computes its
// result and, when a gradient is wanted, leaves a node that knows the way back.
//
// Rules: `needs_grad` flows forward; what needs no gradient is not recorded and saves nothing; a
// frozen convolution or linear layer does not keep its input; the first gradient to arrive
// overwrites, later ones accumulate (no zero-fill); a node's saved tensors are released as soon as
// its backward has run.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace realfake {

// Where the gradient of one value gathers. Of a parameter the buffer persists from step to step.
struct GradSlot {
  Tensor grad;
  bool arrived = false;
  bool persistent = false;
};

// A value, and the slot of its gradient when one is wanted.
class Var {
 public:
  Var() = default;
  explicit Var(Tensor value, std::shared_ptr<GradSlot> slot = nullptr)
      : value_(std::move(value)), slot_(std::move(slot)) {}
  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  int64_t dim(int i) const { return value_.dim(i); }
  bool needs_grad() const { return slot_ != nullptr; }
  const std::shared_ptr<GradSlot>& slot() const { return slot_; }
  // The gradient after backward(); ContractError when none arrived.
  const Tensor& grad() const;

 private:
  Tensor value_;
  std::shared_ptr<GradSlot> slot_;
};

class Tape {
 public:
  // A tape that does not record computes only (sampling, frozen networks).
  explicit Tape(Exec& exec, bool recording = true) : exec_(exec), recording_(recording) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  Exec& exec() const { return exec_; }
  bool recording() const { return recording_; }
  Tensor empty_like(const Tensor& x) const { return exec_.empty(x.shape(), x.dtype()); }

  // For functions: result `value` of an op with these inputs. `backward(dy)` is kept only when the
  // tape records and some input needs a gradient.
  using Backward = std::function<void(const Tensor& dy)>;
  Var result(const char* op, Tensor value, std::initializer_list<const Var*> inputs,
             Backward backward);
  // Whether a function with these inputs will be recorded: decides what is worth saving.
  bool records(std::initializer_list<const Var*> inputs) const;

  // Runs the nodes in reverse from `output`, whose gradient is `dout` (or 1 for a scalar loss).
  void backward(const Var& output, const Tensor& dout = Tensor());
  // Several outputs, all with gradients given.
  void backward(const std::vector<std::pair<Var, Tensor>>& outputs);

  size_t nodes() const { return nodes_.size(); }
  // Bytes of tensors that nodes hold for backward are those of their closures; this clears them
  // unused.
  void clear() { nodes_.clear(); }

 private:
  struct Node {
    const char* op;
    std::shared_ptr<GradSlot> output;
    Backward backward;
  };
  Exec& exec_;
  bool recording_;
  std::vector<Node> nodes_;
};

// The gradient output for a slot: ignore when null; allocates like `shape` on first arrival.
GradOut want(Exec& exec, const std::shared_ptr<GradSlot>& slot, const Shape& shape, DType dtype);
// Passes `dy` on unchanged: adopts the tensor when it is the first to arrive and `adopt` is allowed
// (nobody else keeps it), else copies or adds.
void pass_gradient(Exec& exec, const std::shared_ptr<GradSlot>& slot, const Tensor& dy, bool adopt);

// Runs `block` without recording and keeps only its inputs; backward runs it again, recorded.
using Block = std::function<Var(Tape&, const std::vector<Var>&)>;
Var checkpoint(Tape& tape, const std::vector<Var>& inputs, Block block);

}  // namespace realfake
