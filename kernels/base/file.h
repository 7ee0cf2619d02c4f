#pragma once
// Files that are whole or absent: readers check before they trust, writers go through a temporary
// file.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace realfake {

// A read-only regular file, read with pread into the caller's buffers. A FIFO, device or folder is
// refused.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);  // InputError / IoError
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  InputFile(InputFile&& other) noexcept;

  uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }
  // Reads exactly `bytes` at `offset`; IoError "file changed while being read" when they are not
  // there.
  void read(void* to, size_t bytes, uint64_t offset) const;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

// Whole file; InputError when it is larger than `limit` bytes.
std::string read_file(const std::filesystem::path& path, uint64_t limit);

// Writes a file that appears under its name only when complete and durable:
// sibling temporary file (O_EXCL|O_NOFOLLOW), fsync, rename, fsync of the folder.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();  // removes the temporary file unless commit() was reached
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();  // IoError; the old file stays when anything fails

 private:
  std::filesystem::path path_, temporary_;
  int fd_ = -1;
};

void write_file_atomic(const std::filesystem::path& path, std::string_view content);

// Appends whole lines with one write() each, so that a kill leaves at most one torn last line.
class LineAppender {
 public:
  explicit LineAppender(const std::filesystem::path& path);
  ~LineAppender();
  LineAppender(const LineAppender&) = delete;
  LineAppender& operator=(const LineAppender&) = delete;
  void append(std::string_view line);  // adds the newline
  void sync();

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

// Lines of a file written by LineAppender; a torn last line (no newline) is left out.
std::vector<std::string> read_whole_lines(const std::filesystem::path& path, uint64_t limit);

// An exclusive lock on a folder (flock on `<folder>/.lock`), gone when the process ends however it
// ends. LockedError names the holder's process id and host.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

// Replaces control characters and escapes in text from files before it reaches a terminal.
std::string printable(std::string_view text);

}  // namespace realfake
