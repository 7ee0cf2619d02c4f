#include "kernels/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/backend.h"
#include "tests/testing/op_case.h"

namespace realfake::testing {

namespace {

Exec& cpu() {
  return exec_of(Device::cpu);
}

Tensor counting(const Shape& shape) {
  std::vector<float> v(static_cast<size_t>(shape.numel()));
  std::iota(v.begin(), v.end(), 0.0f);
  return cpu().from_vector(v, shape);
}

TEST(Shape, Basics) {
  const Shape s{2, 3, 4};
  EXPECT_EQ(s.rank(), 3);
  EXPECT_EQ(s[-1], 4);
  EXPECT_EQ(s.numel(), 24);
  EXPECT_EQ(s.str(), "[2,3,4]");
  EXPECT_EQ(s, Shape({2, 3, 4}));
  EXPECT_NE(s, Shape({2, 3}));
  EXPECT_EQ(Shape().numel(), 1);
  EXPECT_EQ(Shape({5, 0}).numel(), 0);
}

TEST(Shape, RefusesWhatCannotBe) {
  EXPECT_THROW(Shape({int64_t{1} << 40, int64_t{1} << 40}).numel(), ContractError);
  EXPECT_THROW(Shape({2, -1}), ContractError);
  EXPECT_THROW(Shape(std::vector<int64_t>(9, 1)), ContractError);
}

TEST(Tensor, SliceOfTheLeadingDimension) {
  const Tensor x = counting({4, 2, 3});
  const Tensor s = x.slice(1, 3);
  EXPECT_EQ(s.shape(), Shape({2, 2, 3}));
  EXPECT_TRUE(s.dense());
  EXPECT_EQ(cpu().to_vector<float>(s).front(), 6);
  EXPECT_EQ(cpu().to_vector<float>(s).back(), 17);
  EXPECT_EQ(x.slice(2, 2).numel(), 0);
  EXPECT_THROW(x.slice(3, 5), ContractError);
  EXPECT_THROW(x.slice(3, 2), ContractError);
}

TEST(Tensor, ColumnsAreStridedRows) {
  const Tensor x = counting({2, 3, 5});
  const Tensor c = x.columns(1, 3);
  EXPECT_EQ(c.shape(), Shape({2, 3, 2}));
  EXPECT_FALSE(c.dense());
  EXPECT_EQ(c.row_stride(), 5);
  EXPECT_EQ(c.rows(), 6);
  EXPECT_EQ(cpu().to_vector<float>(c),
            (std::vector<float>{1, 2, 6, 7, 11, 12, 16, 17, 21, 22, 26, 27}));
  EXPECT_EQ(cpu().to_vector<float>(c.columns(1, 2)), (std::vector<float>{2, 7, 12, 17, 22, 27}));
  EXPECT_THROW(x.columns(3, 6), ContractError);
}

TEST(Tensor, SliceOfColumnsKeepsTheStride) {
  const Tensor c = counting({4, 3, 5}).columns(2, 4).slice(1, 2);
  EXPECT_EQ(c.shape(), Shape({1, 3, 2}));
  EXPECT_EQ(cpu().to_vector<float>(c), (std::vector<float>{17, 18, 22, 23, 27, 28}));
}

TEST(Tensor, Reshape) {
  const Tensor x = counting({2, 3, 4});
  EXPECT_EQ(cpu().to_vector<float>(x.reshape({6, 4})), cpu().to_vector<float>(x));
  EXPECT_EQ(x.flat().shape(), Shape({24}));
  EXPECT_THROW(x.reshape({5, 5}), ContractError);
  const Tensor c = x.columns(0, 2);  // the last dimension may not be broken up, the others may
  EXPECT_EQ(c.reshape({6, 2}).row_stride(), 4);
  EXPECT_EQ(cpu().to_vector<float>(c.reshape({3, 2, 2})), cpu().to_vector<float>(c));
  EXPECT_THROW(c.reshape({12}), ContractError);
}

TEST(Tensor, ViewsShareTheirData) {
  const Tensor x = counting({2, 4});
  fill(cpu(), x.columns(1, 3), 9);
  EXPECT_EQ(cpu().to_vector<float>(x), (std::vector<float>{0, 9, 9, 3, 4, 9, 9, 7}));
}

TEST(Tensor, CloneIsDenseAndApart) {
  const Tensor x = counting({3, 4});
  const Tensor y = cpu().clone(x.columns(1, 3));
  EXPECT_TRUE(y.dense());
  fill(cpu(), x, 0);
  EXPECT_EQ(cpu().to_vector<float>(y), (std::vector<float>{1, 2, 5, 6, 9, 10}));
}

TEST(Tensor, WrongTypeAndUndefinedAreRefused) {
  const Tensor x = counting({2});
  EXPECT_THROW(x.data<double>(), ContractError);
  EXPECT_THROW(cpu().to_vector<int64_t>(x), ContractError);
  EXPECT_THROW(Tensor().raw(), ContractError);
  EXPECT_THROW(cpu().from_vector(std::vector<float>{1, 2, 3}, {2, 2}), ContractError);
}

TEST(Exec, FillsAndScalars) {
  for (const Device device : {Device::cpu, Device::emulated}) {
    Exec& ex = exec_of(device);
    EXPECT_EQ(ex.to_vector<float>(ex.zeros({3})), (std::vector<float>{0, 0, 0}));
    EXPECT_EQ(ex.to_vector<float>(ex.full({2}, 2.5)), (std::vector<float>{2.5, 2.5}));
    EXPECT_EQ(ex.scalar(ex.full({1}, -1.5)), -1.5);
    EXPECT_EQ(ex.to_vector<int64_t>(ex.from_vector(std::vector<int64_t>{1, -2}, {2})),
              (std::vector<int64_t>{1, -2}));
  }
  EXPECT_EQ(cpu().scalar(cpu().full({1}, 0.1, DType::f64)), 0.1);
}

TEST(Exec, DeviceNames) {
  EXPECT_EQ(parse_device("cpu"), Device::cpu);
  EXPECT_EQ(parse_device("emulated"), Device::emulated);
  EXPECT_EQ(parse_device("cuda"), Device::cuda);
  EXPECT_THROW(parse_device("gpu9"), UsageError);
}

TEST(Exec, CudaWithoutADeviceIsAGpuError) {
  if (cuda_available()) GTEST_SKIP() << "a device answers here";
  EXPECT_THROW(Exec(Device::cuda), GpuError);
}

// Unaligned lengths, no elements at all: the edges of every loop.
TEST(Exec, EmptyTensorsPassThrough) {
  for (const Device device : {Device::cpu, Device::emulated}) {
    Exec& ex = exec_of(device);
    const Tensor x = ex.empty({0, 5}), y = ex.empty({0, 5});
    copy(ex, y, x);
    add(ex, y, x, x);
    activation_forward(ex, y, x, Activation::silu);
    const Tensor sum = ex.full({1}, 7);
    sum_all(ex, sum, x);
    EXPECT_EQ(ex.scalar(sum), 0);
  }
}

}  // namespace

}  // namespace realfake::testing
