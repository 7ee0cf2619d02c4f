#include "kernels/activation.h"

#include "kernels/backend.h"
#include "kernels/ops/expect.h"

namespace realfake {

void activation_forward(Exec& ex, Out y, In x, Activation kind) {
  const Expect expect(ex, "activation_forward", x);
  expect.tensor("x", x);
  expect.tensor("y", y, x.shape());
  ex.ops().activation_forward(ex, y, x, kind);
}

void activation_backward(Exec& ex, GradOut dx, In dy, In x, Activation kind) {
  if (!dx.wanted()) return;
  const Expect expect(ex, "activation_backward", x);
  expect.tensor("x", x);
  expect.tensor("dy", dy, x.shape());
  expect.grad("dx", dx, x.shape());
  ex.ops().activation_backward(ex, dx, dy, x, kind);
}

OpCost activation_cost(const Shape& x, DType t, bool backward) {
  const auto n = static_cast<double>(x.numel());
  return {n * static_cast<double>(size_of(t)) * (backward ? 3 : 2), n * (backward ? 8 : 4)};
}

void geglu_forward(Exec& ex, Out y, In x) {
  const Expect expect(ex, "geglu_forward", y);
  expect.rank("y", y, 1);
  expect.tensor("y", y);
  Shape wide = y.shape();
  wide.set(-1, 2 * y.columns());
  expect.tensor("x", x, wide);
  ex.ops().geglu_forward(ex, y, x);
}

void geglu_backward(Exec& ex, GradOut dx, In dy, In x) {
  if (!dx.wanted()) return;
  const Expect expect(ex, "geglu_backward", dy);
  expect.rank("dy", dy, 1);
  expect.tensor("dy", dy);
  Shape wide = dy.shape();
  wide.set(-1, 2 * dy.columns());
  expect.tensor("x", x, wide);
  expect.grad("dx", dx, wide);
  ex.ops().geglu_backward(ex, dx, dy, x);
}

void softmax_forward(Exec& ex, Out y, In x) {
  const Expect expect(ex, "softmax_forward", x);
  expect.rank("x", x, 1);
  expect.tensor("x", x);
  expect.tensor("y", y, x.shape());
  ex.ops().softmax_forward(ex, y, x);
}

void softmax_backward(Exec& ex, GradOut dx, In dy, In y) {
  if (!dx.wanted()) return;
  const Expect expect(ex, "softmax_backward", y);
  expect.rank("y", y, 1);
  expect.tensor("y", y);
  expect.tensor("dy", dy, y.shape());
  expect.grad("dx", dx, y.shape());
  ex.ops().softmax_backward(ex, dx, dy, y);
}

}  // namespace realfake
