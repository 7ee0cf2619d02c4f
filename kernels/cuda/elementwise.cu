// Launchers of kernels/elementwise.h.
#include "kernels/cuda/elementwise.cuh"

#include "kernels/cuda/columns.cuh"

namespace realfake::RF_BACKEND {

namespace {

template <class T>
void fill_as(Exec& ex, Out y, double value) {
  launch(fill_kernel<T>, grid_for(y.numel()), kBlock, 0, ex, rows_of<T>(y), static_cast<T>(value),
         y.numel());
}

// The same matrix as one of elements of type T, whatever its dtype.
template <class T>
Rows<T> bits_of(const Tensor& t) {
  return {static_cast<T*>(t.raw()), t.rows(), t.columns(), t.row_stride()};
}
template <class T>
void copy_as(Exec& ex, Out y, In x) {
  launch(copy_kernel<T>, grid_for(x.numel()), kBlock, 0, ex, bits_of<T>(y), bits_of<T>(x),
         x.numel());
}

// body(TypeTag of the storage type): what a cast may read, and for floating types also write.
template <class F>
void dispatch_floating(DType t, F&& body) {
  switch (t) {
    case DType::f32:
      return body(TypeTag<float>{});
    case DType::f16:
      return body(TypeTag<F16>{});
    case DType::bf16:
      return body(TypeTag<BF16>{});
    default:
      throw ContractError(concat("[cast] dtype ", name_of(t), " is not computed on this device"));
  }
}
template <class F>
void dispatch_storage(DType t, F&& body) {
  switch (t) {
    case DType::i32:
      return body(TypeTag<int32_t>{});
    case DType::i64:
      return body(TypeTag<int64_t>{});
    case DType::u8:
      return body(TypeTag<uint8_t>{});
    default:
      return dispatch_floating(t, body);
  }
}

}  // namespace

void fill(Exec& ex, Out y, double value) {
  switch (y.dtype()) {
    case DType::f32:
      return fill_as<float>(ex, y, value);
    case DType::i32:
      return fill_as<int32_t>(ex, y, value);
    case DType::i64:
      return fill_as<int64_t>(ex, y, value);
    case DType::u8:
      return fill_as<uint8_t>(ex, y, value);
    default:
      throw ContractError(
          concat("[fill] dtype ", name_of(y.dtype()), " is not computed on this device"));
  }
}

void copy(Exec& ex, Out y, In x) {
  switch (size_of(x.dtype())) {
    case 1:
      return copy_as<uint8_t>(ex, y, x);
    case 2:
      return copy_as<uint16_t>(ex, y, x);
    case 4:
      return copy_as<uint32_t>(ex, y, x);
    default:
      return copy_as<uint64_t>(ex, y, x);
  }
}

void add(Exec& ex, Out y, In a, In b, double alpha, double beta) {
  require_f32("add", y, a, b);
  using T = float;
  launch(add_kernel<T>, grid_for(y.numel()), kBlock, 0, ex, rows_of<T>(y), rows_of<T>(a),
         rows_of<T>(b), alpha, beta, y.numel());
}

void scale(Exec& ex, Out y, In x, double alpha, bool accumulate) {
  require_f32("scale", y, x);
  using T = float;
  launch(scale_kernel<T>, grid_for(y.numel()), kBlock, 0, ex, rows_of<T>(y), rows_of<T>(x), alpha,
         accumulate, y.numel());
}

void multiply(Exec& ex, Out y, In a, In b, bool accumulate) {
  require_f32("multiply", y, a, b);
  using T = float;
  launch(multiply_kernel<T>, grid_for(y.numel()), kBlock, 0, ex, rows_of<T>(y), rows_of<T>(a),
         rows_of<T>(b), accumulate, y.numel());
}

void add_broadcast(Exec& ex, Out y, In x, In v) {
  require_f32("add_broadcast", y, x, v);
  if (x.numel() == 0) return;
  using T = float;
  const int threads = walk_threads(x.columns());
  launch(add_broadcast_kernel<T>, walk_grid(x.rows(), threads), kBlock, 0, ex, rows_of<T>(y),
         rows_of<T>(x), rows_of<T>(v), x.rows() / v.rows(), threads);
}

void sum_middle(Exec& ex, GradOut dv, In x) {
  if (!dv.wanted()) return;
  require_f32("sum_middle", dv.tensor, x);
  using T = float;
  sum_columns<T>(ex, rows_of<T>(dv.tensor), dv.accumulate(), rows_of<T>(x), dv.tensor.rows());
}

void scale_samples(Exec& ex, Out y, In x, In s, bool accumulate) {
  require_f32("scale_samples", y, x, s);
  if (x.numel() == 0) return;
  using T = float;
  launch(scale_samples_kernel<T>, grid_for(x.numel()), kBlock, 0, ex, rows_of<T>(y), rows_of<T>(x),
         s.data<T>(), elements_per_sample(x), accumulate, x.numel());
}

void cast(Exec& ex, Out y, In x) {
  dispatch_floating(y.dtype(), [&](auto to) {
    dispatch_storage(x.dtype(), [&](auto from) {
      using To = typename decltype(to)::type;
      using From = typename decltype(from)::type;
      launch(cast_kernel<To, From>, grid_for(x.numel()), kBlock, 0, ex, bits_of<To>(y),
             bits_of<From>(x), x.numel());
    });
  });
}

}  // namespace realfake::RF_BACKEND
