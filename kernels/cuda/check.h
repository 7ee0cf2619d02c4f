#pragma once
// Errors of the CUDA libraries as exceptions: expression, file, line and the library's own words.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <cudnn.h>

#include "kernels/base/error.h"
#include "kernels/cuda/limits.h"

namespace realfake::cuda {

[[noreturn]] inline void throw_gpu_error(const char* expression, const char* file, int line,
                                         const char* name, const char* text) {
  const std::string path = file;
  throw GpuError(concat(expression, " failed at ", path.substr(path.find_last_of('/') + 1), ":",
                        line, ": ", name, ": ", text));
}

inline void check_cuda(cudaError_t status, const char* expression, const char* file, int line) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that is reported must not be met again by the next check
  throw_gpu_error(expression, file, line, cudaGetErrorName(status), cudaGetErrorString(status));
}
inline void check_cublas(cublasStatus_t status, const char* expression, const char* file,
                         int line) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw_gpu_error(expression, file, line, cublasLtGetStatusName(status),
                    cublasLtGetStatusString(status));
}
inline void check_cudnn(cudnnStatus_t status, const char* expression, const char* file, int line) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char text[512] = "";
  cudnnGetLastErrorString(text, sizeof text);
  throw_gpu_error(expression, file, line, cudnnGetErrorString(status), text);
}

}  // namespace realfake::cuda

#define CUDA_CHECK(expression) \
  ::realfake::cuda::check_cuda((expression), #expression, __FILE__, __LINE__)
#define CUBLAS_CHECK(expression) \
  ::realfake::cuda::check_cublas((expression), #expression, __FILE__, __LINE__)
#define CUDNN_CHECK(expression) \
  ::realfake::cuda::check_cudnn((expression), #expression, __FILE__, __LINE__)
