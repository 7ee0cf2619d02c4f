#include "kernels/base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernels/base/error.h"
#include "kernels/base/text.h"

namespace realfake {
namespace {

std::string shown(const std::filesystem::path& path) {
  return printable(path.string());
}

[[noreturn]] void io_failure(const std::filesystem::path& path, const char* action, int error) {
  throw IoError(concat(shown(path), ": cannot ", action, ": ", std::strerror(error)));
}

int open_retry(const std::filesystem::path& path, int flags, mode_t mode = 0) {
  int fd;
  do fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  return fd;
}

// Returns 0 or the error number; a short write goes on where it stopped.
int write_all(int fd, const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t n = ::write(fd, data, std::min<size_t>(bytes, 1u << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EIO;
    data += n;
    bytes -= static_cast<size_t>(n);
  }
  return 0;
}

int sync_retry(int fd) {
  int rc;
  do rc = ::fsync(fd);
  while (rc != 0 && errno == EINTR);
  return rc == 0 ? 0 : errno;
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  const auto parent = path.parent_path();
  return parent.empty() ? std::filesystem::path(".") : parent;
}

// A link planted under an output's name is refused, not replaced and never followed.
void refuse_special_target(const std::filesystem::path& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    throw IoError(concat(shown(path), ": exists and is not a regular file"));
}

}  // namespace

// InputFile
// -------------------------------------------------------------------------------------------

InputFile::InputFile(const std::filesystem::path& path) : path_(path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer. It changes nothing for a regular file.
  const int fd = open_retry(path, O_RDONLY | O_NONBLOCK);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) throw InputError(shown(path) + ": no such file");
    if (errno == ELOOP || errno == ENXIO) throw InputError(shown(path) + ": not a regular file");
    io_failure(path, "open", errno);
  }
  struct stat info;
  if (::fstat(fd, &info) != 0) {
    const int error = errno;
    ::close(fd);
    io_failure(path, "read its size", error);
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    throw InputError(shown(path) + ": not a regular file");
  }
  fd_ = fd;
  size_ = static_cast<uint64_t>(info.st_size);
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

void InputFile::read(void* to, size_t bytes, uint64_t offset) const {
  require(offset <= size_ && bytes <= size_ - offset, "[InputFile] read of ", bytes, " bytes at ",
          offset, " in a file of ", size_);
  auto* out = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t n =
        ::pread(fd_, out, std::min<size_t>(bytes, 1u << 30), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) io_failure(path_, "read", errno);
    if (n == 0) throw IoError(shown(path_) + ": file changed while being read");
    out += n;
    offset += static_cast<uint64_t>(n);
    bytes -= static_cast<size_t>(n);
  }
}

std::string read_file(const std::filesystem::path& path, uint64_t limit) {
  const InputFile file(path);
  if (file.size() > limit)
    throw InputError(
        concat(shown(path), ": found ", file.size(), " bytes, expected at most ", limit));
  std::string content(static_cast<size_t>(file.size()), '\0');
  file.read(content.data(), content.size(), 0);
  return content;
}

// AtomicFile
// ------------------------------------------------------------------------------------------

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  static std::atomic<uint64_t> counter{0};
  refuse_special_target(path_);
  for (int attempt = 0; attempt < 100; ++attempt) {
    temporary_ = folder_of(path_) / concat(".", path_.filename().string(), ".", ::getpid(), "-",
                                           counter.fetch_add(1), ".tmp");
    fd_ = open_retry(temporary_, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
    if (fd_ >= 0) return;
    if (errno != EEXIST) io_failure(path_, "create", errno);
  }
  io_failure(path_, "create a temporary file beside it", EEXIST);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  require(fd_ >= 0, "[AtomicFile] write after commit or after a failure");
  const int error = write_all(fd_, static_cast<const char*>(data), bytes);
  if (error == 0) return;
  ::close(std::exchange(fd_, -1));  // a file that lost a write can never be committed
  io_failure(path_, "write", error);
}

void AtomicFile::commit() {
  require(fd_ >= 0, "[AtomicFile] commit after commit or after a failure");
  // After a failed fsync the kernel may call the pages clean: the file is lost, no second try.
  int error = sync_retry(fd_);
  if (::close(std::exchange(fd_, -1)) != 0 && error == 0 && errno != EINTR) error = errno;
  if (error != 0) io_failure(path_, "write to disk", error);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) io_failure(path_, "rename to", errno);
  temporary_.clear();
  const int folder = open_retry(folder_of(path_), O_RDONLY | O_DIRECTORY);
  if (folder < 0) io_failure(folder_of(path_), "open the folder", errno);
  error = sync_retry(folder);
  ::close(folder);
  // Some file systems cannot sync a folder and say EINVAL; the rename is still in place.
  if (error != 0 && error != EINVAL) io_failure(folder_of(path_), "sync the folder", error);
}

void write_file_atomic(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

// Lines
// -----------------------------------------------------------------------------------------------

namespace {

// Offset just after the last newline, so that a torn last line can be cut off.
uint64_t end_of_whole_lines(const std::filesystem::path& path, int fd, uint64_t size) {
  char buffer[4096];
  while (size > 0) {
    const uint64_t begin = size > sizeof buffer ? size - sizeof buffer : 0;
    const ssize_t n =
        ::pread(fd, buffer, static_cast<size_t>(size - begin), static_cast<off_t>(begin));
    if (n < 0 && errno == EINTR) continue;
    if (n != static_cast<ssize_t>(size - begin)) io_failure(path, "read", n < 0 ? errno : EIO);
    for (ssize_t i = n; i > 0; --i)
      if (buffer[i - 1] == '\n') return begin + static_cast<uint64_t>(i);
    size = begin;
  }
  return 0;
}

}  // namespace

LineAppender::LineAppender(const std::filesystem::path& path) : path_(path) {
  refuse_special_target(path);
  const int fd = open_retry(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, 0644);
  if (fd < 0) io_failure(path, "open for appending", errno);
  fd_ = fd;
  try {
    struct stat info;
    if (::fstat(fd_, &info) != 0) io_failure(path, "read its size", errno);
    const auto size = static_cast<uint64_t>(info.st_size);
    const uint64_t whole = end_of_whole_lines(path, fd_, size);
    if (whole != size && ::ftruncate(fd_, static_cast<off_t>(whole)) != 0)
      io_failure(path, "cut off a torn last line", errno);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

LineAppender::~LineAppender() {
  ::close(fd_);
}

void LineAppender::append(std::string_view line) {
  require(line.find('\n') == std::string_view::npos, "[LineAppender] a line holds a newline");
  std::string whole(line);
  whole.push_back('\n');
  const off_t before = ::lseek(fd_, 0, SEEK_END);
  const int error = write_all(fd_, whole.data(), whole.size());
  if (error == 0) return;
  // Take a part-written line back, so that a later one does not continue it.
  if (before >= 0 && ::ftruncate(fd_, before) != 0) io_failure(path_, "append to", errno);
  io_failure(path_, "append to", error);
}

void LineAppender::sync() {
  const int error = sync_retry(fd_);
  if (error != 0) io_failure(path_, "write to disk", error);
}

std::vector<std::string> read_whole_lines(const std::filesystem::path& path, uint64_t limit) {
  const std::string text = read_file(path, limit);
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1)
    lines.push_back(text.substr(begin, end - begin));
  return lines;
}

// FolderLock
// ------------------------------------------------------------------------------------------

FolderLock::FolderLock(const std::filesystem::path& folder) {
  const auto path = folder / ".lock";
  const int fd = open_retry(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
  if (fd < 0) io_failure(path, "open", errno);
  int rc;
  do rc = ::flock(fd, LOCK_EX | LOCK_NB);
  while (rc != 0 && errno == EINTR);
  if (rc != 0) {
    const int error = errno;
    char holder[300];
    const ssize_t n = ::pread(fd, holder, sizeof holder, 0);
    ::close(fd);
    if (error != EWOULDBLOCK) io_failure(path, "lock", error);
    std::string name(holder, n > 0 ? static_cast<size_t>(n) : 0);
    while (!name.empty() && name.back() == '\n') name.pop_back();
    throw LockedError(
        concat(shown(folder), ": in use by ", name.empty() ? "another process" : printable(name)));
  }
  char host[256] = "unknown host";
  ::gethostname(host, sizeof host - 1);
  host[sizeof host - 1] = '\0';
  const std::string text = concat("process ", ::getpid(), " on ", host, "\n");
  // The text only names the holder; the lock itself is the kernel's and ends with the process.
  int error = ::ftruncate(fd, 0) == 0 ? 0 : errno;
  if (error == 0) error = write_all(fd, text.data(), text.size());
  if (error != 0) {
    ::close(fd);
    io_failure(path, "write", error);
  }
  fd_ = fd;
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

std::string printable(std::string_view text) {
  std::string out;
  char escaped[16];
  for (size_t at = 0; at < text.size();) {
    uint32_t c = 0;
    const size_t length = decode_utf8(text, at, c);
    // Bidirectional controls can make a name read as another one.
    const bool direction = c == 0x061c || c == 0x200e || c == 0x200f ||
                           (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
                           c == 0x2028 || c == 0x2029;
    if (length == 0 || c < 0x20 || c == 0x7f) {
      std::snprintf(escaped, sizeof escaped, "\\x%02x",
                    static_cast<unsigned>(static_cast<uint8_t>(text[at])));
      out += escaped;
      at += 1;
    } else if ((c >= 0x80 && c < 0xa0) || direction) {
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      out += escaped;
      at += length;
    } else {
      out += text.substr(at, length);
      at += length;
    }
  }
  return out;
}

}  // namespace realfake
