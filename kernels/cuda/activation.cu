// Launchers of kernels/activation.h.
#include "kernels/cuda/activation.cuh"

namespace realfake::RF_BACKEND {

namespace {

template <Activation A>
struct ActivationTag {
  static constexpr Activation value = A;
};
template <class F>
void dispatch_activation(Activation a, F&& body) {
  switch (a) {
    case Activation::silu:
      return body(ActivationTag<Activation::silu>{});
    case Activation::gelu:
      return body(ActivationTag<Activation::gelu>{});
    case Activation::quick_gelu:
      return body(ActivationTag<Activation::quick_gelu>{});
    case Activation::relu:
      return body(ActivationTag<Activation::relu>{});
  }
  throw ContractError(concat("[activation] unknown activation ", static_cast<int>(a)));
}

}  // namespace

void activation_forward(Exec& ex, Out y, In x, Activation activation) {
  require_f32("activation_forward", y, x);
  using T = float;
  dispatch_activation(activation, [&](auto tag) {
    launch(activation_forward_kernel<T, decltype(tag)::value>, grid_for(x.numel()), kBlock, 0, ex,
           rows_of<T>(y), rows_of<T>(x), x.numel());
  });
}

void activation_backward(Exec& ex, GradOut dx, In dy, In x, Activation activation) {
  if (!dx.wanted()) return;
  require_f32("activation_backward", dx.tensor, dy, x);
  using T = float;
  dispatch_activation(activation, [&](auto tag) {
    launch(activation_backward_kernel<T, decltype(tag)::value>, grid_for(x.numel()), kBlock, 0, ex,
           rows_of<T>(dx.tensor), dx.accumulate(), rows_of<T>(dy), rows_of<T>(x), x.numel());
  });
}

void geglu_forward(Exec& ex, Out y, In x) {
  require_f32("geglu_forward", y, x);
  using T = float;
  const int threads = walk_threads(y.columns());
  launch(geglu_forward_kernel<T>, walk_grid(y.rows(), threads), kBlock, 0, ex, rows_of<T>(y),
         rows_of<T>(x), threads);
}

void geglu_backward(Exec& ex, GradOut dx, In dy, In x) {
  if (!dx.wanted()) return;
  require_f32("geglu_backward", dx.tensor, dy, x);
  using T = float;
  const int threads = walk_threads(dy.columns());
  launch(geglu_backward_kernel<T>, walk_grid(dy.rows(), threads), kBlock, 0, ex,
         rows_of<T>(dx.tensor), dx.accumulate(), rows_of<T>(dy), rows_of<T>(x), threads);
}

void softmax_forward(Exec& ex, Out y, In x) {
  require_f32("softmax_forward", y, x);
  using T = float;
  launch(softmax_forward_kernel<T>, grid_of_items(x.rows()), reduce_threads(x.columns()), 0, ex,
         rows_of<T>(y), rows_of<T>(x));
}

void softmax_backward(Exec& ex, GradOut dx, In dy, In y) {
  if (!dx.wanted()) return;
  require_f32("softmax_backward", dx.tensor, dy, y);
  using T = float;
  launch(softmax_backward_kernel<T>, grid_of_items(y.rows()), reduce_threads(y.columns()), 0, ex,
         rows_of<T>(dx.tensor), dx.accumulate(), rows_of<T>(dy), rows_of<T>(y));
}

}  // namespace realfake::RF_BACKEND
