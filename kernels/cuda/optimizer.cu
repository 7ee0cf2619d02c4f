// Launchers of kernels/optimizer.h.
#include "kernels/cuda/optimizer.cuh"

#include <cmath>
#include <cstring>

namespace realfake::RF_BACKEND {

namespace {

// The tables of one launch: the arrays of every tensor, then a chunk for each block, in one upload.
// The copy waits, so the host vector may go at once.
class Work {
 public:
  Work(Exec& ex, const std::vector<Arrays<float>>& tensors) {
    std::vector<Chunk> chunks;
    for (size_t t = 0; t < tensors.size(); ++t)
      for (int64_t begin = 0; begin < tensors[t].size; begin += kChunk)
        chunks.push_back({static_cast<int64_t>(t), begin});
    blocks_ = static_cast<int64_t>(chunks.size());
    require(blocks_ <= INT32_MAX, "[optimizer] ", blocks_, " chunks are more than a grid holds");
    if (!blocks_) return;
    head_ = tensors.size() * sizeof(Arrays<float>);
    std::vector<unsigned char> bytes(head_ + chunks.size() * sizeof(Chunk));
    std::memcpy(bytes.data(), tensors.data(), head_);
    std::memcpy(bytes.data() + head_, chunks.data(), chunks.size() * sizeof(Chunk));
    table_ = ex.from_host(bytes.data(), {static_cast<int64_t>(bytes.size())}, DType::u8);
  }
  bool empty() const { return blocks_ == 0; }
  int64_t blocks() const { return blocks_; }
  dim3 grid() const { return dim3(static_cast<unsigned>(blocks_)); }
  const Arrays<float>* tensors() const { return static_cast<const Arrays<float>*>(table_.raw()); }
  const Chunk* chunks() const {
    return reinterpret_cast<const Chunk*>(static_cast<const unsigned char*>(table_.raw()) + head_);
  }

 private:
  Tensor table_;
  size_t head_ = 0;
  int64_t blocks_ = 0;
};

}  // namespace

void adamw_step(Exec& ex, const std::vector<AdamWTensor>& tensors, AdamWParams params, int64_t step,
                double grad_scale) {
  std::vector<Arrays<float>> arrays;
  for (const AdamWTensor& t : tensors) {
    require_f32("adamw_step", t.param, t.grad, t.m, t.v);
    arrays.push_back(
        {{t.param.data<float>(), t.grad.data<float>(), t.m.data<float>(), t.v.data<float>()},
         t.param.numel(),
         t.decay});
  }
  const Work work(ex, arrays);
  if (work.empty()) return;
  const double bias1 = 1 - std::pow(params.beta1, static_cast<double>(step));
  const double bias2 = 1 - std::pow(params.beta2, static_cast<double>(step));
  const auto f = [](double v) { return static_cast<float>(v); };
  const AdamWStep s{f(grad_scale),        f(1 - params.lr * params.weight_decay),
                    f(params.beta1),      f(params.beta2),
                    f(1 - params.beta1),  f(1 - params.beta2),
                    f(params.lr / bias1), f(1 / std::sqrt(bias2)),
                    f(params.eps)};
  launch(adamw_kernel<float>, work.grid(), kBlock, 0, ex, work.tensors(), work.chunks(), s);
}

void sgd_step(Exec& ex, const std::vector<SgdTensor>& tensors, SgdParams params, int64_t step,
              double grad_scale) {
  std::vector<Arrays<float>> arrays;
  for (const SgdTensor& t : tensors) {
    require_f32("sgd_step", t.param, t.grad, t.buffer);
    arrays.push_back({{t.param.data<float>(), t.grad.data<float>(),
                       t.buffer.defined() ? t.buffer.data<float>() : nullptr, nullptr},
                      t.param.numel(),
                      t.decay});
  }
  const Work work(ex, arrays);
  if (work.empty()) return;
  const SgdStep s{static_cast<float>(grad_scale),
                  static_cast<float>(params.lr),
                  static_cast<float>(params.momentum),
                  static_cast<float>(params.weight_decay),
                  params.nesterov,
                  step == 1};
  launch(sgd_kernel<float>, work.grid(), kBlock, 0, ex, work.tensors(), work.chunks(), s);
}

double global_norm(Exec& ex, const std::vector<Tensor>& tensors) {
  std::vector<Arrays<float>> arrays;
  for (const Tensor& t : tensors) {
    require_f32("global_norm", t);
    arrays.push_back({{t.data<float>(), nullptr, nullptr, nullptr}, t.numel(), 0});
  }
  const Work work(ex, arrays);
  if (work.empty()) return 0;
  const Tensor partial = ex.empty({work.blocks()}, DType::f64);
  const Tensor norm = ex.empty({1}, DType::f64);
  launch(chunk_squares_kernel<float>, work.grid(), kBlock, 0, ex, partial.data<double>(),
         work.tensors(), work.chunks());
  launch(sum_partials_kernel<double>, dim3(1), kBlock, 0, ex, norm.data<double>(),
         partial.data<double>(), work.blocks(), 1.0, true);
  return ex.scalar(norm);
}

void ema_update(Exec& ex, const std::vector<Tensor>& average, const std::vector<Tensor>& value,
                double decay) {
  require(average.size() == value.size(), "[ema_update] ", average.size(), " averages of ",
          value.size(), " values");
  std::vector<Arrays<float>> arrays;
  for (size_t i = 0; i < average.size(); ++i) {
    require_f32("ema_update", average[i], value[i]);
    arrays.push_back({{average[i].data<float>(), value[i].data<float>(), nullptr, nullptr},
                      average[i].numel(),
                      0});
  }
  const Work work(ex, arrays);
  if (work.empty()) return;
  launch(ema_kernel<float>, work.grid(), kBlock, 0, ex, work.tensors(), work.chunks(), decay,
         1 - decay);
}

}  // namespace realfake::RF_BACKEND
