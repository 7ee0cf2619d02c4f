// cuda only: devices, streams and memory; the table of the CUDA ops.
#include <mutex>

#include "kernels/backend.h"
#include "kernels/cuda/libraries.h"

namespace realfake {
namespace cuda {

Libraries::Libraries(void* stream) {
  CUBLAS_CHECK(cublasLtCreate(lt.address()));
  CUDNN_CHECK(cudnnCreate(cudnn.address()));
  CUDNN_CHECK(cudnnSetStream(cudnn.get(), static_cast<cudaStream_t>(stream)));
}

namespace {

// Never destroyed: at the end of the program the driver may be gone before static objects are.
struct LibrarySets {
  std::mutex mutex;
  std::map<void*, std::unique_ptr<Libraries>> of_stream;
};
LibrarySets& library_sets() {
  static LibrarySets& sets = *new LibrarySets;
  return sets;
}

bool available() {
  int count = 0;
  const bool found = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  cudaGetLastError();  // "no device" is an answer here, not an error for the next check
  return found;
}

void* open_stream(int index) {
  int count = 0;
  CUDA_CHECK(cudaGetDeviceCount(&count));
  if (index < 0 || index >= count)
    throw GpuError(concat("cuda device: found index ", index, ", expected one of ", count,
                          " devices (0 is the first)"));
  CUDA_CHECK(cudaSetDevice(index));
  cudaStream_t stream = nullptr;
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

// Called by destructors: errors have been reported by the work that caused them.
void close_stream(void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  cudaStreamSynchronize(s);
  forget_libraries(stream);
  cudaStreamDestroy(s);
}

void synchronize(void* stream) {
  CUDA_CHECK(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)));
}

void* allocate(size_t bytes) {
  void* p = nullptr;
  const cudaError_t status = cudaMalloc(&p, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;  // the pool says what was wanted and what is in use
  }
  CUDA_CHECK(status);
  return p;
}
void release(void* p) {
  cudaFree(p);
}

void fill_bytes(void* p, int byte, size_t bytes, void* stream) {
  CUDA_CHECK(cudaMemsetAsync(p, byte, bytes, static_cast<cudaStream_t>(stream)));
}
void copy_bytes(void* to, const void* from, size_t bytes, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, s));
  CUDA_CHECK(cudaStreamSynchronize(s));
}

}  // namespace

Libraries& libraries_of(void* stream) {
  LibrarySets& sets = library_sets();
  const std::lock_guard<std::mutex> lock(sets.mutex);
  std::unique_ptr<Libraries>& set = sets.of_stream[stream];
  if (!set) set = std::make_unique<Libraries>(stream);
  return *set;
}
void forget_libraries(void* stream) {
  LibrarySets& sets = library_sets();
  const std::lock_guard<std::mutex> lock(sets.mutex);
  sets.of_stream.erase(stream);
}

}  // namespace cuda

const Executor* cuda_executor() {
#define REALFAKE_ENTRY(name) &cuda::name,
  static const OpTable table = {REALFAKE_OPS(REALFAKE_ENTRY)};
#undef REALFAKE_ENTRY
  static const Executor executor = {
      &table,
      {cuda::allocate, cuda::release, cuda::fill_bytes, cuda::copy_bytes},
      cuda::available,
      cuda::open_stream,
      cuda::close_stream,
      cuda::synchronize};
  return &executor;
}

}  // namespace realfake
