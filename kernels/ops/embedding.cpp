#include "kernels/embedding.h"

#include "kernels/ops/checks.h"

namespace realfake {

namespace {
// y (..., D) belongs to ids (...): leading dimensions agree.
void expect_rows_for_ids(Exec& ex, const char* op, const char* name, In y, In table, In ids) {
  expect_device(ex, op, "ids", ids);
  expect_dtype(op, "ids", ids, DType::i64);
  expect_dense(op, "ids", ids);
  std::vector<int64_t> shape = ids.shape().vec();
  require(static_cast<int>(shape.size()) < Shape::max_rank, "[", op,
          "] expected ids of rank below ", Shape::max_rank, ", got ", ids.shape());
  shape.push_back(table.dim(1));
  expect_dense_like(ex, op, name, y, table.dtype(), Shape(shape));
  expect_indices(ex, op, "ids", ids, table.dim(0));
}
}  // namespace

void embedding_forward(Exec& ex, Out y, In table, In ids) {
  expect_dense_real(ex, "embedding_forward", "table", table);
  expect_rank("embedding_forward", "table", table, 2, 2);
  expect_rows_for_ids(ex, "embedding_forward", "y", y, table, ids);
  ex.ops().embedding_forward(ex, y, table, ids);
}

void embedding_backward(Exec& ex, GradOut dtable, In dy, In ids) {
  if (!dtable.wanted()) return;
  expect_dense_real(ex, "embedding_backward", "dtable", dtable.tensor);
  expect_rank("embedding_backward", "dtable", dtable.tensor, 2, 2);
  expect_rows_for_ids(ex, "embedding_backward", "dy", dy, dtable.tensor, ids);
  ex.ops().embedding_backward(ex, dtable, dy, ids);
}

void timestep_embedding(Exec& ex, Out y, In t, bool flip_sin_to_cos, double shift) {
  expect_dense_real(ex, "timestep_embedding", "y", y);
  expect_rank("timestep_embedding", "y", y, 2, 2);
  require(y.dim(1) % 2 == 0 && y.dim(1) > 0 && static_cast<double>(y.dim(1) / 2) > shift,
          "[timestep_embedding] expected an even D with D/2 > shift ", shift, ", got ", y.dim(1));
  expect_dense_like(ex, "timestep_embedding", "t", t, DType::i64, {y.dim(0)});
  ex.ops().timestep_embedding(ex, y, t, flip_sin_to_cos, shift);
}

void add_positions(Exec& ex, Out y, In x, In pos) {
  expect_dense_real(ex, "add_positions", "x", x);
  expect_rank("add_positions", "x", x, 3, 3);
  expect_dense_like(ex, "add_positions", "y", y, x.dtype(), x.shape());
  expect_dense_like(ex, "add_positions", "pos", pos, x.dtype(), {x.dim(1), x.dim(2)});
  ex.ops().add_positions(ex, y, x, pos);
}

void sum_leading(Exec& ex, GradOut out, In x) {
  if (!out.wanted()) return;
  expect_dense_real(ex, "sum_leading", "x", x);
  expect_rank("sum_leading", "x", x, 1, Shape::max_rank);
  const std::vector<int64_t> shape = x.shape().vec();
  expect_dense_like(ex, "sum_leading", "out", out.tensor, x.dtype(),
                    Shape(std::vector<int64_t>(shape.begin() + 1, shape.end())));
  ex.ops().sum_leading(ex, out, x);
}

void gather_tokens_forward(Exec& ex, Out y, In x, In index) {
  expect_dense_real(ex, "gather_tokens_forward", "x", x);
  expect_rank("gather_tokens_forward", "x", x, 3, 3);
  expect_dense_like(ex, "gather_tokens_forward", "y", y, x.dtype(), {x.dim(0), x.dim(2)});
  expect_dense_like(ex, "gather_tokens_forward", "index", index, DType::i64, {x.dim(0)});
  expect_indices(ex, "gather_tokens_forward", "index", index, x.dim(1));
  ex.ops().gather_tokens_forward(ex, y, x, index);
}

void gather_tokens_backward(Exec& ex, GradOut dx, In dy, In index) {
  if (!dx.wanted()) return;
  const Tensor& x = dx.tensor;
  expect_dense_real(ex, "gather_tokens_backward", "dx", x);
  expect_rank("gather_tokens_backward", "dx", x, 3, 3);
  expect_dense_like(ex, "gather_tokens_backward", "dy", dy, x.dtype(), {x.dim(0), x.dim(2)});
  expect_dense_like(ex, "gather_tokens_backward", "index", index, DType::i64, {x.dim(0)});
  expect_indices(ex, "gather_tokens_backward", "index", index, x.dim(1));
  ex.ops().gather_tokens_backward(ex, dx, dy, index);
}

}  // namespace realfake
