#include "crema/io.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <sys/stat.h>
#include <unistd.h>

namespace crema {

namespace {

// A file that is removed again unless it was renamed into place.
class PartialFile {
 public:
  explicit PartialFile(std::string path) : path_(std::move(path)) {
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    Require(fd_ >= 0, "cannot create '", path_, "': ", std::strerror(errno));
  }
  ~PartialFile() {
    if (fd_ >= 0) close(fd_);
    if (!path_.empty()) unlink(path_.c_str());
  }
  void Write(const char* bytes, size_t size) {
    while (size > 0) {
      ssize_t written = write(fd_, bytes, size);
      if (written < 0 && errno == EINTR) continue;
      Require(written > 0, "cannot write '", path_, "': ", std::strerror(errno));
      bytes += written;
      size -= static_cast<size_t>(written);
    }
  }
  void RenameTo(const std::string& path) {
    const bool synced = fsync(fd_) == 0;  // before errno is read
    Require(synced, "cannot write '", path, "' to disk: ", std::strerror(errno));
    close(fd_);
    fd_ = -1;
    const bool renamed = rename(path_.c_str(), path.c_str()) == 0;
    Require(renamed, "cannot rename '", path_, "' to '", path, "': ", std::strerror(errno));
    path_.clear();
  }

 private:
  std::string path_;
  int fd_ = -1;
};

void SyncDirectoryOf(const std::string& path) {
  std::filesystem::path parent = std::filesystem::path(path).parent_path();
  int fd = open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // the rename itself has happened; some file systems refuse to open a directory
  fsync(fd);
  close(fd);
}

}  // namespace

std::string ReadFile(const std::string& path) {
  Require(!std::filesystem::is_directory(path), "cannot read '", path, "': it is a folder");
  std::ifstream in(path, std::ios::binary);
  Require(in.good(), "cannot read '", path, "': ", std::strerror(errno));
  std::ostringstream bytes;
  bytes << in.rdbuf();
  Require(!in.bad(), "cannot read '", path, "': ", std::strerror(errno));
  return std::move(bytes).str();
}

void WriteFile(const std::string& path, const std::string& bytes) {
  PartialFile file(path + ".partial");
  file.Write(bytes.data(), bytes.size());
  file.RenameTo(path);
  SyncDirectoryOf(path);
}

bool FileExists(const std::string& path) {
  return std::filesystem::exists(path);
}

void MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  Require(!error, "cannot create the folder '", path, "': ", error.message());
}

void ReadBinary(const std::string& path, google::protobuf::Message* message) {
  const std::string bytes = ReadFile(path);
  Require(bytes.size() < INT32_MAX, "'", path, "' has ", bytes.size(),
          " bytes; protobuf reads less than 2 GB");
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  google::protobuf::io::CodedInputStream coded(&stream);
  coded.SetTotalBytesLimit(INT32_MAX);
  Require(message->ParseFromCodedStream(&coded) && coded.ConsumedEntireMessage(), "'", path,
          "' is truncated or not a binary ", message->GetTypeName());
}

void WriteBinary(const std::string& path, const google::protobuf::Message& message) {
  Require(message.ByteSizeLong() < INT32_MAX, "'", path, "' would have ", message.ByteSizeLong(),
          " bytes; protobuf writes less than 2 GB");
  std::string bytes;
  Require(message.SerializeToString(&bytes), "cannot serialise '", path, "'");
  WriteFile(path, bytes);
}

}  // namespace crema
