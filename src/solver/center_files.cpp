#include "solver/center_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>

#include "base/transfer.hpp"
#include "crema/bfloat16.hpp"
#include "crema/io.hpp"
#include "crema/permutation.hpp"

namespace crema {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

DataFile::DataFile(std::string path, int flags)
    : path_(std::move(path)), fd_(open(path_.c_str(), flags | O_CLOEXEC, 0644)) {
  Require(fd_ >= 0, "cannot open '", path_, "': ", std::strerror(errno));
}

DataFile::~DataFile() {
  close(fd_);
}

void DataFile::Resize(int64_t bytes) {
  const bool done = ftruncate(fd_, bytes) == 0;  // before errno is read
  Require(done, "cannot make '", path_, "' ", bytes, " bytes long: ", std::strerror(errno));
}

int64_t DataFile::size() const {
  struct stat info {};
  const bool done = fstat(fd_, &info) == 0;
  Require(done, "cannot read '", path_, "': ", std::strerror(errno));
  return info.st_size;
}

void DataFile::WriteAt(int64_t offset, const char* bytes, int64_t size) {
  const bool all = WriteAllAt(fd_, bytes, size, offset) == size;
  Require(all, "cannot write '", path_, "': ", std::strerror(errno));
}

void DataFile::ReadAt(int64_t offset, char* bytes, int64_t size) const {
  const int64_t done = ReadAllAt(fd_, bytes, size, offset);
  const int failure = errno;
  Require(done == size || failure != 0, "'", path_, "' ends at byte ", offset + done, " where ", size - done,
          " more were expected");
  Require(done == size, "cannot read '", path_, "': ", std::strerror(failure));
}

void DataFile::Sync() {
  const bool done = fsync(fd_) == 0;
  Require(done, "cannot write '", path_, "' to disk: ", std::strerror(errno));
}

std::string CentersHeaderPath(const std::string& folder, const std::string& stem) {
  return Concat(folder, "/", stem, ".txt");
}

std::string CentersDataPath(const std::string& folder, const std::string& stem, const std::string& quantity,
                            const std::string& dtype) {
  return Concat(folder, "/", stem, ".", quantity, ".", dtype);
}

std::string LastDrawnPath(const std::string& folder, const std::string& stem) {
  return CentersDataPath(folder, stem, "last_drawn", "i32");
}

int64_t RowOfClass(const CentersHeader& header, int64_t c) {
  return header.has_assignment() ? Permutation(header.assignment(), header.rows())(c) : c;
}

std::vector<std::string> CentersStems(const std::string& folder) {
  std::vector<std::string> stems;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().extension() == ".txt") stems.push_back(entry.path().stem());
  Require(!error, "cannot read the folder '", folder, "': ", error.message());
  std::sort(stems.begin(), stems.end());
  return stems;
}

bool HasQuantity(const CentersHeader& header, const std::string& quantity) {
  return std::find(header.quantity().begin(), header.quantity().end(), quantity) != header.quantity().end();
}

DType StoredType(const CentersHeader& header, const std::string& path) {
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    if (header.dtype() == NameOf(dtype)) return dtype;
  }
  Fail("'", path, "' has dtype \"", header.dtype(), "\", f32, f64 or bf16 was expected");
}

CentersHeader ReadCentersHeader(const std::string& path) {
  CentersHeader header;
  ReadText(path, &header);
  Require(header.has_rows() && header.has_dim() && header.rows() >= 0 && header.dim() > 0, "'", path,
          "' does not give rows and dim");
  StoredType(header, path);
  std::map<std::string, int64_t> next;
  for (const CentersHeader::Block& block : header.block()) {
    int64_t& row = next[block.quantity()];
    Require(HasQuantity(header, block.quantity()) && block.first_row() == row && block.rows() > 0, "'", path,
            "' has a block of \"", block.quantity(), "\" from row ", block.first_row(), ", a block of ",
            "one of its quantities from row ", row, " was expected");
    row += block.rows();
  }
  for (const auto& [quantity, rows] : next)
    Require(rows == header.rows(), "'", path, "' has blocks for ", rows, " rows of \"", quantity, "\", ",
            header.rows(), " were expected");
  return header;
}

// The file of a quantity, checked for its length.
void CheckLength(const DataFile& file, const CentersHeader& header, int64_t number_bytes) {
  const int64_t wanted = header.rows() * header.dim() * number_bytes;
  Require(file.size() == wanted, "'", file.path(), "' has ", file.size(), " bytes, ", wanted,
          " were expected (", header.rows(), " rows of ", header.dim(), " numbers of ", header.dtype(), ")");
}

std::vector<int32_t> LastDrawnOf(const std::string& folder, const std::string& stem, int64_t rows) {
  const DataFile file(LastDrawnPath(folder, stem), O_RDONLY);
  const int64_t wanted = rows * static_cast<int64_t>(sizeof(int32_t));
  Require(file.size() == wanted, "'", file.path(), "' has ", file.size(), " bytes, ", wanted,
          " were expected (an i32 for each of ", rows, " rows)");
  std::vector<int32_t> numbers(static_cast<size_t>(rows));
  file.ReadAt(0, reinterpret_cast<char*>(numbers.data()), wanted);
  return numbers;
}

uint32_t Checksum(const char* bytes, int64_t size, uint32_t before) {
  return static_cast<uint32_t>(
      crc32_z(before, reinterpret_cast<const unsigned char*>(bytes), static_cast<size_t>(size)));
}

uint32_t JoinChecksums(uint32_t first, uint32_t second, int64_t second_size) {
  return static_cast<uint32_t>(crc32_combine(first, second, second_size));
}

void Convert(DType from, const char* in, DType to, int64_t count, std::vector<char>* out) {
  out->resize(static_cast<size_t>(count * SizeOf(to)));
  ForStored(DType::kF64, from, [&]<class, class From>() {
    ForStored(DType::kF64, to, [&]<class, class To>() {
      for (int64_t i = 0; i < count; ++i) {
        From x;
        std::memcpy(&x, in + i * static_cast<int64_t>(sizeof(From)), sizeof(From));
        const To y = static_cast<To>(static_cast<double>(x));
        std::memcpy(out->data() + i * static_cast<int64_t>(sizeof(To)), &y, sizeof(To));
      }
    });
  });
}

}  // namespace crema
