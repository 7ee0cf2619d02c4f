#include "kernels/pool.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "kernels/exec.h"

namespace realfake {

namespace {

class PoolDebug {
 public:
  explicit PoolDebug(bool on) : before_(Pool::debug()) { Pool::set_debug(on); }
  ~PoolDebug() { Pool::set_debug(before_); }

 private:
  bool before_;
};

TEST(Pool, ABlockGivenBackIsUsedAgain) {
#ifdef REALFAKE_ASAN
  GTEST_SKIP() << "under a sanitizer blocks are not used again";
#endif
  PoolDebug off(false);
  Exec ex(Device::cpu);
  void* first = ex.empty({100}).raw();
  const Tensor again = ex.empty({99});  // the same size class
  EXPECT_EQ(again.raw(), first);
  const Tensor other = ex.empty({100});
  EXPECT_NE(other.raw(), first);
}

TEST(Pool, AlignmentSuitsVectors) {
  for (const bool debug : {false, true}) {
    PoolDebug mode(debug);
    Exec ex(Device::cpu);
    for (const int64_t n : {1, 3, 17, 1000, 100000}) {
      const Tensor t = ex.empty({n});
      EXPECT_EQ(reinterpret_cast<uintptr_t>(t.raw()) % 64, 0u) << n;
    }
  }
}

TEST(Pool, PeakIsTheHighWaterMark) {
  PoolDebug off(false);
  Exec ex(Device::cpu);
  const size_t before = ex.peak_bytes();
  {
    const Tensor a = ex.empty({1 << 20}), b = ex.empty({1 << 20});
    EXPECT_GE(ex.peak_bytes() - before, size_t{8} << 20);
  }
  const size_t peak = ex.peak_bytes();
  const Tensor c = ex.empty({1 << 10});
  EXPECT_EQ(ex.peak_bytes(), peak);
}

TEST(Pool, FreshMemoryIsNanInDebugMode) {
  PoolDebug on(true);
  Exec ex(Device::cpu);
  for (int round = 0; round < 2; ++round) {  // a new block, then one used before
    const Tensor t = ex.empty({37});
    for (int64_t i = 0; i < 37; ++i) {
      EXPECT_TRUE(std::isnan(t.data<float>()[i]));
      t.data<float>()[i] = 1;
    }
  }
}

TEST(Pool, GuardBandsCountEachByteAround) {
  PoolDebug on(true);
  Exec ex(Device::cpu);
  const size_t before = Pool::guard_hits();
  {
    const Tensor t = ex.empty({5}, DType::u8);
    std::memset(t.raw(), 0, 5);
  }
  EXPECT_EQ(Pool::guard_hits(), before);
  {
    const Tensor t = ex.empty({5}, DType::u8);
    t.data<uint8_t>()[5] = 0;
    t.data<uint8_t>()[-1] = 0;
  }
  EXPECT_EQ(Pool::guard_hits(), before + 2);
  {
    const Tensor t = ex.empty({5}, DType::u8);
    t.data<uint8_t>()[-static_cast<int64_t>(Pool::guard_bytes)] = 0;
    t.data<uint8_t>()[5 + 2000] = 0;  // far behind the end
  }
  EXPECT_EQ(Pool::guard_hits(), before + 4);
}

TEST(Pool, ATensorOutlivesItsExec) {
  Tensor t;
  {
    Exec ex(Device::cpu);
    t = ex.full({3}, 2);
  }
  EXPECT_EQ(t.data<float>()[2], 2);
}

TEST(Pool, ImpossibleSizesAreMemoryErrors) {
  Exec ex(Device::cpu);
  try {
    ex.empty({int64_t{1} << 50});
    FAIL() << "a petabyte was given out";
  } catch (const MemoryError& e) {
    EXPECT_EQ(e.code(), ExitCode::memory);
    EXPECT_NE(std::string(e.what()).find("bytes"), std::string::npos) << e.what();
  }
  EXPECT_EQ(ex.to_vector<float>(ex.zeros({2})).size(), 2u);  // and life goes on
}

TEST(Pool, TwoExecsWorkAtTheSameTime) {
  const auto work = [] {
    Exec ex(Device::cpu);
    for (int i = 0; i < 200; ++i) {
      const Tensor t = ex.full({1 + i}, i);
      if (t.data<float>()[i] != static_cast<float>(i)) throw std::runtime_error("mixed up");
    }
  };
  std::thread other(work);
  work();
  other.join();
}

}  // namespace

}  // namespace realfake
