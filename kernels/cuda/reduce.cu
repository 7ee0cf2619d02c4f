// Launchers of kernels/reduce.h.
#include "kernels/cuda/reduce_ops.cuh"

namespace realfake::RF_BACKEND {

namespace {

// Blocks of a whole-tensor reduction: at least 16 elements a thread, at most 1024 partials.
int64_t fold_blocks(int64_t count) {
  const int64_t blocks = (count + kBlock * 16 - 1) / (kBlock * 16);
  return blocks < 1 ? 1 : blocks > 1024 ? 1024 : blocks;
}

template <Fold F>
void fold(Exec& ex, const char* op, Out out, In x) {
  require_f32(op, out, x);
  using T = float;
  const int64_t blocks = fold_blocks(x.numel());
  const Tensor storage = ex.empty({blocks}, DType::i64);  // 8 bytes each, read as doubles
  double* partial = static_cast<double*>(storage.raw());
  launch(fold_partial<T, F>, grid_of_items(blocks), kBlock, 0, ex, partial, rows_of<T>(x),
         x.numel());
  if constexpr (F == Fold::max_abs)
    launch(max_partials_kernel<T>, 1, kBlock, 0, ex, out.data<T>(), partial, blocks);
  else
    launch(sum_partials_kernel<T>, 1, kBlock, 0, ex, out.data<T>(), partial, blocks, 1.0, false);
}

}  // namespace

void column_sum(Exec& ex, GradOut out, In x) {
  if (!out.wanted()) return;
  require_f32("column_sum", out.tensor, x);
  using T = float;
  sum_columns<T>(ex, rows_of<T>(out.tensor), out.accumulate(), rows_of<T>(x), 1);
}

void sum_all(Exec& ex, Out out, In x) {
  fold<Fold::sum>(ex, "sum_all", out, x);
}
void sum_squares(Exec& ex, Out out, In x) {
  fold<Fold::squares>(ex, "sum_squares", out, x);
}
void max_abs(Exec& ex, Out out, In x) {
  fold<Fold::max_abs>(ex, "max_abs", out, x);
}

void count_nonfinite(Exec& ex, Out out, In x) {
  require_f32("count_nonfinite", x);
  const int64_t blocks = fold_blocks(x.numel());
  const Tensor partial = ex.empty({blocks, 2}, DType::i64);
  launch(nonfinite_partial<float>, grid_of_items(blocks), kBlock, 0, ex, partial.data<int64_t>(),
         rows_of<float>(x), x.numel());
  launch(nonfinite_finish, 1, kBlock, 0, ex, out.data<int64_t>(), partial.data<int64_t>(), blocks);
}

void argmax_rows(Exec& ex, Out out, In x) {
  require_f32("argmax_rows", x);
  launch(argmax_rows_kernel<float>, grid_of_items(x.rows()), reduce_threads(x.columns()), 0, ex,
         out.data<int64_t>(), rows_of<float>(x));
}

}  // namespace realfake::RF_BACKEND
