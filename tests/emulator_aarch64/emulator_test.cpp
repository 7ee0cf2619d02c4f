// The emulator on 64-bit Arm: stack switches, shuffles and barriers, faults thrown on a fibre, and
// a kernel of the product. Plain C++, so that cross compiling needs no test library; run.sh builds
// and runs it under qemu-user.
#define REALFAKE_EMULATED 1
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/normalization.cuh"

namespace realfake::emulated {

// Registers that a call must keep hold live values across each switch, integers and doubles alike.
RF_KERNEL void live_registers(double* out) {
  RF_SHARED(double, shared, 64);
  const int t = static_cast<int>(threadIdx.x);
  double a = t + 0.25, b = t * 3.0, c = t * t;
  int64_t i = t, j = 7 * t, k = 1000 - t;
  for (int round = 0; round < 5; ++round) {
    shared[t] = a;
    __syncthreads();
    a += shared[(t + 1) % 64];
    __syncthreads();
    b += __shfl_xor_sync(0xffffffffu, c, 1);
    c += 1;
    i += j;
    j ^= k;
    k += round;
  }
  out[t] = a + b + c + static_cast<double>(i + j + k);
}
RF_KERNEL void split_barrier() {
  if (threadIdx.x < 32) __syncthreads();
}
RF_KERNEL void past_the_end() {
  RF_SHARED(float, shared, 8);
  if (threadIdx.x == 0) shared[8] = 1;
}

}  // namespace realfake::emulated

namespace {

using namespace realfake;

int checks = 0, failures = 0;
void expect(bool good, const char* what) {
  ++checks;
  if (!good) {
    ++failures;
    std::printf("FAILED %s\n", what);
  }
}

std::vector<double> plain_registers() {
  std::vector<double> a(64), b(64), c(64), next(64), out(64);
  std::vector<int64_t> i(64), j(64), k(64);
  for (int t = 0; t < 64; ++t) {
    a[t] = t + 0.25, b[t] = t * 3.0, c[t] = t * t;
    i[t] = t, j[t] = 7 * t, k[t] = 1000 - t;
  }
  for (int round = 0; round < 5; ++round) {
    for (int t = 0; t < 64; ++t) next[t] = a[t] + a[(t + 1) % 64];
    a = next;
    for (int t = 0; t < 64; ++t) b[t] += c[t ^ 1];
    for (int t = 0; t < 64; ++t) {
      c[t] += 1;
      i[t] += j[t];
      j[t] ^= k[t];
      k[t] += round;
    }
  }
  for (int t = 0; t < 64; ++t)
    out[t] = a[t] + b[t] + c[t] + static_cast<double>(i[t] + j[t] + k[t]);
  return out;
}

bool layer_norm_is_right() {
  const int64_t rows = 3, columns = 37, stride = 40;
  std::vector<float> x(rows * stride), y(rows * stride, NAN), gamma(columns), beta(columns);
  std::vector<float> mean(rows, NAN), rstd(rows, NAN);
  for (size_t n = 0; n < x.size(); ++n) x[n] = std::sin(static_cast<float>(n)) + 2;
  for (int64_t c = 0; c < columns; ++c) gamma[c] = 0.5f + 0.01f * c, beta[c] = 0.1f * c - 1;
  const emulated::Rows<float> in{x.data(), rows, columns, stride};
  const emulated::Rows<float> out{y.data(), rows, columns, stride};
  emulator::run({2, 1, 1}, {64, 1, 1}, 0, [&] {
    emulated::layer_norm_forward_kernel<float>(out, mean.data(), rstd.data(), in, gamma.data(),
                                               beta.data(), 1e-5f);
  });
  bool good = true;
  for (int64_t r = 0; r < rows; ++r) {
    double m = 0, v = 0;
    for (int64_t c = 0; c < columns; ++c) m += x[r * stride + c] / static_cast<double>(columns);
    for (int64_t c = 0; c < columns; ++c) {
      const double d = x[r * stride + c] - m;
      v += d * d / static_cast<double>(columns);
    }
    for (int64_t c = 0; c < columns; ++c) {
      const double want = (x[r * stride + c] - m) / std::sqrt(v + 1e-5) * gamma[c] + beta[c];
      good = good && std::fabs(y[r * stride + c] - want) < 1e-5;
    }
    for (int64_t c = columns; c < stride; ++c) good = good && std::isnan(y[r * stride + c]);
  }
  return good;
}

template <class Kernel>
bool reports(const Kernel& kernel, const char* words) {
  try {
    emulator::run({1, 1, 1}, {64, 1, 1}, 0, kernel);
  } catch (const std::logic_error& e) {
    return std::string(e.what()).find(words) != std::string::npos;
  }
  return false;
}

}  // namespace

int main() {
  const std::vector<double> want = plain_registers();
  for (const emulator::Order order : {emulator::Order::ascending, emulator::Order::descending}) {
    emulator::set_order(order);
    std::vector<double> got(64, NAN);
    emulator::run({1, 1, 1}, {64, 1, 1}, 0, [&] { emulated::live_registers(got.data()); });
    expect(got == want, "values live across stack switches");
    expect(layer_norm_is_right(), "layer norm forward, strided rows");
    expect(reports([] { emulated::split_barrier(); }, "barrier"),
           "a barrier that half the block misses");
    expect(reports([] { emulated::past_the_end(); }, "past a shared array"),
           "a write past shared memory");
    expect(layer_norm_is_right(), "layer norm after a fault");
  }
  std::printf("emulator_aarch64: %d passed, %d failed\n", checks - failures, failures);
  return failures != 0;
}
