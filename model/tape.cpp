#include "model/tape.h"

#include "kernels/elementwise.h"

namespace realfake {

const Tensor& Var::grad() const {
  require(slot_ && slot_->arrived, "[grad] no gradient has arrived");
  return slot_->grad;
}

bool Tape::records(std::initializer_list<const Var*> inputs) const {
  if (!recording_) return false;
  for (const Var* v : inputs)
    if (v->needs_grad()) return true;
  return false;
}

Var Tape::result(const char* op, Tensor value, std::initializer_list<const Var*> inputs,
                 Backward backward) {
  if (!records(inputs)) return Var(std::move(value));
  auto slot = std::make_shared<GradSlot>();
  nodes_.push_back({op, slot, std::move(backward)});
  return Var(std::move(value), std::move(slot));
}

void Tape::backward(const Var& output, const Tensor& dout) {
  require(output.needs_grad(), "[backward] the output depends on nothing that needs a gradient");
  require(dout.defined() || output.value().numel() == 1, "[backward] of ", output.shape(),
          " needs its gradient");
  backward(
      {{output, dout.defined() ? dout : exec_.full(output.shape(), 1, output.value().dtype())}});
}

void Tape::backward(const std::vector<std::pair<Var, Tensor>>& outputs) {
  for (const auto& [output, dout] : outputs) {
    require(dout.shape() == output.shape(), "[backward] gradient ", dout.shape(), " for output ",
            output.shape());
    pass_gradient(exec_, output.slot(), dout, false);
  }
  while (!nodes_.empty()) {
    const Node node = std::move(nodes_.back());
    nodes_.pop_back();
    if (!node.output->arrived) continue;  // nothing downstream wanted it
    node.backward(node.output->grad);
    if (!node.output->persistent) node.output->grad = Tensor();
  }
}

GradOut want(Exec& exec, const std::shared_ptr<GradSlot>& slot, const Shape& shape, DType dtype) {
  if (!slot) return {};
  if (slot->arrived) return {slot->grad.reshape(shape), Grad::accumulate};
  if (!slot->grad.defined()) slot->grad = exec.empty(shape, dtype);
  slot->arrived = true;
  return {slot->grad.reshape(shape), Grad::overwrite};
}

void pass_gradient(Exec& exec, const std::shared_ptr<GradSlot>& slot, const Tensor& dy,
                   bool adopt) {
  if (!slot) return;
  if (adopt && !slot->arrived && !slot->persistent && dy.dense()) {
    slot->grad = dy;
    slot->arrived = true;
    return;
  }
  accumulate_into(exec, want(exec, slot, dy.shape(), dy.dtype()), dy);
}

Var checkpoint(Tape& tape, const std::vector<Var>& inputs, Block block) {
  if (!tape.recording()) return block(tape, inputs);
  Tape forward(tape.exec(), false);
  std::vector<Var> plain;
  for (const Var& v : inputs) plain.emplace_back(v.value());
  const Tensor value = block(forward, plain).value();
  // Parameters inside the block may need gradients whatever the inputs do, so it is always
  // recorded.
  const Var always(value, std::make_shared<GradSlot>());
  Exec* exec = &tape.exec();
  return tape.result("checkpoint", value, {&always}, [exec, inputs, block](const Tensor& dy) {
    Tape again(*exec, true);
    const Var output = block(again, inputs);
    if (output.needs_grad()) again.backward(output, dy);
  });
}

}  // namespace realfake
