// cuda only: convolutions by the graph API of cuDNN.
//
// A plan (one operation, one engine) is chosen once per shape: the first engine of the heuristic's
// list that keeps f32 arithmetic and a fixed order of sums. Images are NHWC: cuDNN is given the
// sizes in its order (N,C,H,W) and our strides.
#include <array>

#include "kernels/backend.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/libraries.h"

namespace realfake::cuda {

// padded (N,H',W',C) = image (N,H,W,C) at (top, left), zero around it.
struct Window {
  int64_t H, W, C, padded_H, padded_W, top, left;
};
template <class T>
RF_KERNEL void pad_image(T* padded, const T* image, Window s, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step()) {
    const int64_t c = i % s.C, w = i / s.C % s.padded_W - s.left;
    const int64_t row = i / s.C / s.padded_W, n = row / s.padded_H, h = row % s.padded_H - s.top;
    const bool inside = h >= 0 && h < s.H && w >= 0 && w < s.W;
    padded[i] = inside ? image[((n * s.H + h) * s.W + w) * s.C + c] : static_cast<T>(0);
  }
}
template <class T>
RF_KERNEL void crop_image(T* image, const T* padded, Window s, bool accumulate, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step()) {
    const int64_t c = i % s.C, w = i / s.C % s.W, row = i / s.C / s.W;
    const int64_t n = row / s.H, h = row % s.H;
    const T v = padded[((n * s.padded_H + h + s.top) * s.padded_W + w + s.left) * s.C + c];
    store_gradient(image[i], static_cast<float>(v), accumulate);
  }
}

namespace {

enum class Direction : int64_t { forward, data, weight };
enum Uid : int64_t { kX = 1, kW = 2, kY = 3 };

// The attribute names of one direction's operation.
struct OperationNames {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t conv, x, w, y, alpha, beta;
};
OperationNames names_of(Direction d) {
  switch (d) {
    case Direction::forward:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    case Direction::data:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    default:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
  }
}

// t (A,H,W,C) as (A,C,H,W) with the strides of ours; a weight (K,R,S,C) is (K,C,R,S) alike.
Descriptor tensor_descriptor(const Tensor& t, Uid uid, int64_t alignment) {
  const int64_t h = t.dim(1), w = t.dim(2), c = t.dim(3), id = uid;
  const cudnnDataType_t type = CUDNN_DATA_FLOAT;
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, {t.dim(0), c, h, w});
  d.set(CUDNN_ATTR_TENSOR_STRIDES, {h * w * c, 1, w * c, c});
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
  d.finalize();
  return d;
}

Descriptor conv_descriptor(const ConvParams& p) {
  const int64_t dims = 2;
  const cudnnDataType_t type = CUDNN_DATA_FLOAT;
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  Descriptor d(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
  d.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  d.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  d.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {p.pad_top, p.pad_left});
  d.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {p.pad_bottom, p.pad_right});
  d.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, {1, 1});
  d.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {p.stride, p.stride});
  d.finalize();
  return d;
}

// Appends the engine configurations of one heuristic, best first; none where the mode has no
// answer.
void append_configs(std::vector<Descriptor>& configs, const Descriptor& graph,
                    cudnnBackendHeurMode_t mode) {
  Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  if (cudnnBackendFinalize(heuristic.get()) != CUDNN_STATUS_SUCCESS) return;
  int64_t count = 0;
  if (cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                               CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                               nullptr) != CUDNN_STATUS_SUCCESS)
    return;
  std::vector<Descriptor> found;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < count; ++i) {
    found.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    raw.push_back(found.back().get());
  }
  int64_t written = 0;
  CUDNN_CHECK(cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &written, raw.data()));
  for (int64_t i = 0; i < written; ++i) configs.push_back(std::move(found[static_cast<size_t>(i)]));
}

struct EngineNotes {
  bool exact = true;          // f32 products: neither TF32 tensor cores nor narrower inputs
  bool deterministic = true;  // equal calls give equal bytes
};
EngineNotes notes_of(const Descriptor& config) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.get();
  int64_t count = 0;
  CUDNN_CHECK(cudnnBackendGetAttribute(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &raw));
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes = {};
  CUDNN_CHECK(cudnnBackendGetAttribute(engine.get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                       CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
                                       &count, notes.data()));
  EngineNotes result;
  for (int64_t i = 0; i < count; ++i) {
    const cudnnBackendNumericalNote_t note = notes[static_cast<size_t>(i)];
    if (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE ||
        note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
        note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)
      result.exact = false;
    if (note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) result.deterministic = false;
  }
  return result;
}

// One operation as a graph, and the first plan that can run it. Engines with TF32 only where there
// is no other.
ConvPlan make_plan(cudnnHandle_t handle, Direction direction, const Tensor& x, const Tensor& w,
                   const Tensor& y, const ConvParams& p, const int64_t (&alignments)[3]) {
  const OperationNames names = names_of(direction);
  const float one = 1, zero = 0;
  ConvPlan plan;
  plan.parts.push_back(tensor_descriptor(x, kX, alignments[0]));
  plan.parts.push_back(tensor_descriptor(w, kW, alignments[1]));
  plan.parts.push_back(tensor_descriptor(y, kY, alignments[2]));
  plan.parts.push_back(conv_descriptor(p));
  Descriptor operation(names.type);
  operation.set(names.x, plan.parts[0]);
  operation.set(names.w, plan.parts[1]);
  operation.set(names.y, plan.parts[2]);
  operation.set(names.conv, plan.parts[3]);
  operation.set(names.alpha, CUDNN_TYPE_FLOAT, 1, &one);
  operation.set(names.beta, CUDNN_TYPE_FLOAT, 1, &zero);
  operation.finalize();
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  graph.finalize();

  std::vector<Descriptor> configs;
  append_configs(configs, graph, CUDNN_HEUR_MODE_A);
  append_configs(configs, graph, CUDNN_HEUR_MODE_FALLBACK);
  plan.parts.push_back(std::move(operation));
  plan.parts.push_back(std::move(graph));

  constexpr int64_t most = int64_t{1}
                           << 30;  // a plan that wants more workspace comes after all that do not
  struct Tier {
    bool exact;
    int64_t workspace;
  };
  for (const Tier tier : {Tier{true, most}, Tier{true, INT64_MAX}, Tier{false, INT64_MAX}})
    for (Descriptor& config : configs) {
      const EngineNotes notes = notes_of(config);
      if (!notes.deterministic || notes.exact != tier.exact) continue;
      Descriptor candidate(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      candidate.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
      candidate.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
      if (cudnnBackendFinalize(candidate.get()) != CUDNN_STATUS_SUCCESS) continue;
      int64_t count = 0;
      CUDNN_CHECK(cudnnBackendGetAttribute(candidate.get(),
                                           CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                           CUDNN_TYPE_INT64, 1, &count, &plan.workspace_bytes));
      if (plan.workspace_bytes > tier.workspace) continue;
      plan.parts.push_back(std::move(config));
      plan.parts.push_back(std::move(candidate));
      return plan;
    }
  throw GpuError(concat("cudnn: found no deterministic engine for a convolution of x ",
                        x.shape().str(), " by w ", w.shape().str(), ", expected one among ",
                        configs.size()));
}

void run_plan(Exec& ex, Direction direction, const Tensor& x, const Tensor& w, const Tensor& y,
              const ConvParams& p) {
  require(x.dtype() == DType::f32 && w.dtype() == DType::f32 && y.dtype() == DType::f32,
          "[conv2d] dtype ", name_of(x.dtype()), " is not computed on this device");
  Libraries& libraries = libraries_of(ex.stream());
  int64_t alignments[3] = {alignment_of(x.raw()), alignment_of(w.raw()), alignment_of(y.raw())};
  for (int64_t& a : alignments) a = a > 16 ? 16 : a;
  PlanKey key = {static_cast<int64_t>(direction),
                 p.stride,
                 p.pad_top,
                 p.pad_bottom,
                 p.pad_left,
                 p.pad_right,
                 alignments[0],
                 alignments[1],
                 alignments[2]};
  for (const Tensor* t : {&x, &w, &y})
    for (int i = 0; i < 4; ++i) key.push_back(t->dim(i));
  auto found = libraries.convolutions.find(key);
  if (found == libraries.convolutions.end())
    found = libraries.convolutions
                .emplace(key, make_plan(libraries.cudnn.get(), direction, x, w, y, p, alignments))
                .first;

  const ConvPlan& plan = found->second;
  const Tensor workspace =
      ex.empty({plan.workspace_bytes > 0 ? plan.workspace_bytes : 1}, DType::u8);
  const int64_t uids[3] = {kX, kW, kY};
  void* pointers[3] = {x.raw(), w.raw(), y.raw()};
  void* scratch = workspace.raw();
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, uids);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, pointers);
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &scratch);
  pack.finalize();
  CUDNN_CHECK(cudnnBackendExecute(libraries.cudnn.get(), plan.parts.back().get(), pack.get()));
}

// Engines differ in whether they take different pads on two sides, so such an image (the
// down-sampling of the VAE encoder, nowhere else) is padded by us first.
bool uneven(const ConvParams& p) {
  return p.pad_top != p.pad_bottom || p.pad_left != p.pad_right;
}
ConvParams without_pads(const ConvParams& p) {
  return {p.stride, 0, 0, 0, 0};
}
Window window_of(const Tensor& x, const ConvParams& p) {
  return {x.dim(1),
          x.dim(2),
          x.dim(3),
          x.dim(1) + p.pad_top + p.pad_bottom,
          x.dim(2) + p.pad_left + p.pad_right,
          p.pad_top,
          p.pad_left};
}
Tensor padded_like(Exec& ex, const Tensor& x, const Window& s) {
  return ex.empty({x.dim(0), s.padded_H, s.padded_W, s.C});
}
Tensor padded_copy(Exec& ex, const Tensor& x, const ConvParams& p) {
  const Window s = window_of(x, p);
  const Tensor padded = padded_like(ex, x, s);
  launch(pad_image<float>, grid_for(padded.numel()), kBlock, 0, ex, padded.data<float>(),
         x.data<float>(), s, padded.numel());
  return padded;
}

}  // namespace

void conv2d_forward(Exec& ex, Out y, In x, In w, In bias, ConvParams p) {
  if (y.numel() == 0) return;
  if (uneven(p))
    run_plan(ex, Direction::forward, padded_copy(ex, x, p), w, y, without_pads(p));
  else
    run_plan(ex, Direction::forward, x, w, y, p);
  if (!bias.defined()) return;
  const Tensor rows = y.reshape({1, y.rows(), y.columns()});
  cuda::add_broadcast(ex, rows, rows, bias.reshape({1, bias.numel()}));
}

void conv2d_backward_data(Exec& ex, GradOut dx, In dy, In w, ConvParams p) {
  if (!dx.wanted() || dx.tensor.numel() == 0) return;
  if (uneven(p)) {
    const Window s = window_of(dx.tensor, p);
    const Tensor padded = padded_like(ex, dx.tensor, s);
    run_plan(ex, Direction::data, padded, w, dy, without_pads(p));
    launch(crop_image<float>, grid_for(dx.tensor.numel()), kBlock, 0, ex, dx.tensor.data<float>(),
           padded.data<float>(), s, dx.accumulate(), dx.tensor.numel());
  } else if (dx.accumulate()) {
    const Tensor own = ex.empty(dx.tensor.shape());
    run_plan(ex, Direction::data, own, w, dy, p);
    cuda::add(ex, dx.tensor, dx.tensor, own, 1, 1);
  } else {
    run_plan(ex, Direction::data, dx.tensor, w, dy, p);
  }
}

void conv2d_backward_weight(Exec& ex, GradOut dw, In dy, In x, ConvParams p) {
  if (!dw.wanted() || dw.tensor.numel() == 0) return;
  const Tensor input = uneven(p) ? padded_copy(ex, x, p) : x;
  const ConvParams pads = uneven(p) ? without_pads(p) : p;
  if (!dw.accumulate()) return run_plan(ex, Direction::weight, input, dw.tensor, dy, pads);
  const Tensor own = ex.empty(dw.tensor.shape());
  run_plan(ex, Direction::weight, input, own, dy, pads);
  cuda::add(ex, dw.tensor, dw.tensor, own, 1, 1);
}

}  // namespace realfake::cuda
