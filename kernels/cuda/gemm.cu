// cuda only: matrix products by cuBLASLt.
//
// cuBLASLt counts in columns. A row-major matrix is its own transpose there, so c = op(a) op(b) is
// asked for as c^T = op(b)^T op(a)^T with the same memory: the operands change places and nothing
// is moved.
#include "kernels/backend.h"
#include "kernels/cuda/libraries.h"

namespace realfake::cuda {

namespace {

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

using MatmulDesc = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

int64_t row_stride_of(const Tensor& t) {
  return t.row_stride() > t.columns() ? t.row_stride() : t.columns();
}

// t as stored, seen as a column-major matrix (columns, rows) with leading dimension `row stride`.
Layout layout_of(const Tensor& t, int64_t batch) {
  const int64_t rows = t.dim(-2), columns = t.dim(-1), stride = row_stride_of(t);
  Layout layout;
  CUBLAS_CHECK(cublasLtMatrixLayoutCreate(layout.address(), CUDA_R_32F,
                                          static_cast<uint64_t>(columns),
                                          static_cast<uint64_t>(rows), stride));
  if (batch > 1) {
    const int32_t count = static_cast<int32_t>(batch);
    const int64_t offset = rows * stride;
    CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(layout.get(), CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                  &count, sizeof count));
    CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(
        layout.get(), CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &offset, sizeof offset));
  }
  return layout;
}

template <class V>
void prefer(const Preference& p, cublasLtMatmulPreferenceAttributes_t name, V value) {
  CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(p.get(), name, &value, sizeof value));
}

}  // namespace

void gemm(Exec& ex, Out c, In a, In b, bool trans_a, bool trans_b, double alpha, double beta) {
  require(c.dtype() == DType::f32 && a.dtype() == DType::f32 && b.dtype() == DType::f32,
          "[gemm] dtype ", name_of(c.dtype()), " is not computed on this device");
  const int64_t batch = c.rank() == 3 ? c.dim(0) : 1;
  const int64_t m = c.dim(-2), n = c.dim(-1), k = a.dim(trans_a ? -2 : -1);
  if (batch == 0 || m == 0 || n == 0) return;
  if (k == 0) return beta == 0 ? cuda::fill(ex, c, 0) : cuda::scale(ex, c, c, beta, false);
  require(batch <= INT32_MAX, "[gemm] a batch of ", batch, " is too many");

  Libraries& libraries = libraries_of(ex.stream());
  MatmulDesc product;
  CUBLAS_CHECK(cublasLtMatmulDescCreate(product.address(), CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasOperation_t first = trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product.get(), CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                              sizeof first));
  CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product.get(), CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                              sizeof second));
  const Layout of_a = layout_of(a, batch), of_b = layout_of(b, batch), of_c = layout_of(c, batch);

  // The answer of the heuristic is kept, so that equal calls run the same kernel.
  const int64_t align_a = alignment_of(a.raw()), align_b = alignment_of(b.raw());
  const int64_t align_c = alignment_of(c.raw());
  const PlanKey key = {
      m,       n,       k,         batch,   row_stride_of(a), row_stride_of(b), row_stride_of(c),
      trans_a, trans_b, beta == 0, align_a, align_b,          align_c};
  auto found = libraries.products.find(key);
  if (found == libraries.products.end()) {
    Preference preference;
    CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(preference.address()));
    prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
           static_cast<uint64_t>(kWorkspaceBytes));
    prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(align_b));
    prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(align_a));
    prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(align_c));
    prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(align_c));
    // Split sums only through the workspace: adding into the result in place has no fixed order.
    prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE |
                                 CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE));
    cublasLtMatmulHeuristicResult_t result = {};
    int results = 0;
    CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(libraries.lt.get(), product.get(), of_b.get(),
                                                of_a.get(), of_c.get(), of_c.get(),
                                                preference.get(), 1, &result, &results));
    if (results == 0)
      throw GpuError(concat("cublasLt: found no algorithm for m=", m, " n=", n, " k=", k,
                            " batch=", batch, ", expected one"));
    found = libraries.products.emplace(key, result.algo).first;
  }

  const Tensor workspace = ex.empty({kWorkspaceBytes}, DType::u8);
  const float alpha32 = static_cast<float>(alpha), beta32 = static_cast<float>(beta);
  CUBLAS_CHECK(cublasLtMatmul(
      libraries.lt.get(), product.get(), &alpha32, b.raw(), of_b.get(), a.raw(), of_a.get(),
      &beta32, c.raw(), of_c.get(), c.raw(), of_c.get(), &found->second, workspace.raw(),
      static_cast<size_t>(kWorkspaceBytes), static_cast<cudaStream_t>(ex.stream())));
}

}  // namespace realfake::cuda
