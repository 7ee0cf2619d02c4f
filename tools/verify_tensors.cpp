#include "tools/verify_tensors.h"

#include <iostream>

#include "kernels/base/file.h"

namespace realfake {
namespace {

// (N,A,B) -> (N,B,A): channels first to last with A = C, B = HW, and back.
std::vector<float> swap_last_two(const std::vector<float>& x, int64_t n, int64_t a, int64_t b) {
  std::vector<float> y(x.size());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < a; ++j)
      for (int64_t k = 0; k < b; ++k)
        y[static_cast<size_t>((i * b + k) * a + j)] = x[static_cast<size_t>((i * a + j) * b + k)];
  return y;
}

}  // namespace

void VerifyInput::check(const std::string& name, const std::vector<int64_t>& expected,
                        const std::string& letters) const {
  const std::vector<int64_t>& found = file_.info(name).shape;
  bool fits = found.size() == expected.size();
  for (size_t i = 0; fits && i < found.size(); ++i)
    fits = found[i] >= 1 && (expected[i] < 0 || found[i] == expected[i]);
  if (fits) return;
  std::string wanted = "[";
  for (const int64_t d : expected)
    wanted += (wanted.size() > 1 ? "," : "") + (d < 0 ? std::string("*") : std::to_string(d));
  throw InputError(concat(printable(file_.path().string()), ": '", name, "': found ",
                          shape_text(found), ", expected ", letters, " = ", wanted, "]"));
}

std::vector<float> VerifyInput::values(const std::string& name, const std::vector<int64_t>& shape,
                                       const std::string& letters) const {
  check(name, shape, letters);
  return file_.read_f32(name);
}

std::vector<int64_t> VerifyInput::integers(const std::string& name,
                                           const std::vector<int64_t>& shape,
                                           const std::string& letters, int64_t low,
                                           int64_t high) const {
  check(name, shape, letters);
  std::vector<int64_t> v = file_.read_i64(name);
  for (size_t i = 0; i < v.size(); ++i)
    if (v[i] < low || v[i] > high)
      throw InputError(concat(printable(file_.path().string()), ": '", name, "' index ", i,
                              ": found ", v[i], ", expected ", low, "..", high));
  return v;
}

Tensor VerifyInput::images(Exec& exec, const std::string& name, int64_t batch, int64_t channels,
                           const std::string& letters) const {
  const std::vector<float> v = values(name, {batch, channels, -1, -1}, letters);
  const std::vector<int64_t> s = shape(name);
  return exec.from_vector(swap_last_two(v, s[0], s[1], s[2] * s[3]), {s[0], s[2], s[3], s[1]});
}

Tensor VerifyInput::tensor(Exec& exec, const std::string& name, const std::vector<int64_t>& shape,
                           const std::string& letters) const {
  const std::vector<float> v = values(name, shape, letters);
  return exec.from_vector(v, Shape(this->shape(name)));
}

Tensor VerifyInput::integer_tensor(Exec& exec, const std::string& name,
                                   const std::vector<int64_t>& shape, const std::string& letters,
                                   int64_t low, int64_t high) const {
  const std::vector<int64_t> v = integers(name, shape, letters, low, high);
  return exec.from_vector(v, Shape(this->shape(name)));
}

void VerifyOutput::images(Exec& exec, const std::string& name, const Tensor& x) {
  require(x.rank() == 4, "[verify] '", name, "' is ", x.shape().str(), ", not (B,H,W,C)");
  const int64_t n = x.dim(0), h = x.dim(1), w = x.dim(2), c = x.dim(3);
  values(name, {n, c, h, w}, swap_last_two(exec.to_vector<float>(x), n, h * w, c));
}

void VerifyOutput::tensor(Exec& exec, const std::string& name, const Tensor& x) {
  values(name, x.shape().vec(), exec.to_vector<float>(x));
}

void VerifyOutput::values(const std::string& name, const std::vector<int64_t>& shape,
                          const std::vector<float>& v) {
  writer_.add_f32(name, shape, v.data());
  lines_.push_back(name + " F32 " + shape_text(shape));
}

void VerifyOutput::integers(const std::string& name, const std::vector<int64_t>& shape,
                            const std::vector<int64_t>& v) {
  writer_.add_i64(name, shape, v.data());
  lines_.push_back(name + " I64 " + shape_text(shape));
}

void VerifyOutput::write(const std::filesystem::path& file) const {
  writer_.write(file);
  std::cout << printable(file.string()) << ":\n";
  for (const std::string& line : lines_) std::cout << "  " << printable(line) << '\n';
}

std::filesystem::path component_folder(const std::filesystem::path& root, const std::string& name) {
  return std::filesystem::is_directory(root / name) ? root / name : root;
}

}  // namespace realfake
