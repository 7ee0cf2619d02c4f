#pragma once
// Handles of cuBLASLt and cuDNN and what they have planned, one set per stream (an Exec owns its
// stream, and one thread uses an Exec at a time, so nothing here is locked but the list of sets).
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/cuda/check.h"

namespace realfake::cuda {

// Owns one handle of a C library. Destructors do not throw; after a CUDA error Destroy may fail and
// is not asked.
template <class Handle, auto Destroy>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& o) noexcept : handle_(std::exchange(o.handle_, Handle{})) {}
  Owned& operator=(Owned&& o) noexcept {
    std::swap(handle_, o.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_) static_cast<void>(Destroy(handle_));
  }
  Handle get() const { return handle_; }
  Handle* address() { return &handle_; }

 private:
  Handle handle_{};
};

// One object of the cuDNN graph API.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    CUDNN_CHECK(cudnnBackendCreateDescriptor(type, handle_.address()));
  }
  cudnnBackendDescriptor_t get() const { return handle_.get(); }
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values) {
    CUDNN_CHECK(cudnnBackendSetAttribute(get(), name, type, count, values));
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    const cudnnBackendDescriptor_t raw = value.get();
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw);
  }
  void set(cudnnBackendAttributeName_t name, const std::vector<int64_t>& values) {
    set(name, CUDNN_TYPE_INT64, static_cast<int64_t>(values.size()), values.data());
  }
  void finalize() { CUDNN_CHECK(cudnnBackendFinalize(get())); }

 private:
  Owned<cudnnBackendDescriptor_t, cudnnBackendDestroyDescriptor> handle_;
};

struct ConvPlan {
  std::vector<Descriptor> parts;  // what the plan was built from; the plan itself is the last
  int64_t workspace_bytes = 0;
};

using PlanKey = std::vector<int64_t>;  // everything a choice depends on: sizes, strides, alignments
struct Libraries {
  explicit Libraries(void* stream);
  Owned<cublasLtHandle_t, cublasLtDestroy> lt;
  Owned<cudnnHandle_t, cudnnDestroy> cudnn;
  std::map<PlanKey, cublasLtMatmulAlgo_t> products;
  std::map<PlanKey, ConvPlan> convolutions;
};

// The set of a stream, made at first use.
Libraries& libraries_of(void* stream);
void forget_libraries(void* stream);

// The largest power of two, at most 256, that divides an address.
inline int64_t alignment_of(const void* p) {
  const auto bits = reinterpret_cast<uintptr_t>(p) | 256;
  return static_cast<int64_t>(bits & (~bits + 1));
}

}  // namespace realfake::cuda
