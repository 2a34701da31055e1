#include "solver/centers.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/crc32.hpp"
#include "crema/io.hpp"
#include "solver/agree.hpp"

namespace crema {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

constexpr int64_t kBlockRows = 1 << 16;  // rows of a checksum

// "fc7/0" -> "fc7.0"; characters that a file name cannot hold become _.
std::string FileStem(const Param& param) {
  std::string stem = param.name;
  const size_t slash = stem.find_last_of('/');
  if (slash != std::string::npos) stem[slash] = '.';
  std::replace(stem.begin(), stem.end(), '/', '_');
  return stem;
}

std::string HeaderPath(const std::string& folder, const std::string& stem) {
  return Concat(folder, "/", stem, ".txt");
}

std::string DataPath(const std::string& folder, const std::string& stem, const std::string& quantity,
                     const std::string& dtype) {
  return Concat(folder, "/", stem, ".", quantity, ".", dtype);
}

int64_t RowCount(const Param& param) {
  return param.shape.empty() ? 1 : param.shape[0];
}
int64_t TotalRows(const Param& param) {
  return param.sharded ? param.total_rows : RowCount(param);
}
int64_t RowLength(const Param& param) {
  return param.shape.empty() ? 1 : CountOf(param.shape, 1, static_cast<int64_t>(param.shape.size()));
}

// A file that is closed again; failures name it.
class DataFile {
 public:
  DataFile(std::string path, int flags)
      : path_(std::move(path)), fd_(open(path_.c_str(), flags | O_CLOEXEC, 0644)) {
    Require(fd_ >= 0, "cannot open '", path_, "': ", std::strerror(errno));
  }
  ~DataFile() { close(fd_); }
  DataFile(const DataFile&) = delete;

  void Resize(int64_t bytes) {
    const bool done = ftruncate(fd_, bytes) == 0;  // before errno is read
    Require(done, "cannot make '", path_, "' ", bytes, " bytes long: ", std::strerror(errno));
  }
  int64_t size() const {
    struct stat info {};
    const bool done = fstat(fd_, &info) == 0;
    Require(done, "cannot read '", path_, "': ", std::strerror(errno));
    return info.st_size;
  }
  void WriteAt(int64_t offset, const char* bytes, int64_t size) {
    while (size > 0) {
      const ssize_t done = pwrite(fd_, bytes, static_cast<size_t>(size), offset);
      if (done < 0 && errno == EINTR) continue;
      Require(done > 0, "cannot write '", path_, "': ", std::strerror(errno));
      bytes += done, offset += done, size -= done;
    }
  }
  void ReadAt(int64_t offset, char* bytes, int64_t size) {
    while (size > 0) {
      const ssize_t done = pread(fd_, bytes, static_cast<size_t>(size), offset);
      if (done < 0 && errno == EINTR) continue;
      Require(done != 0, "'", path_, "' ends at byte ", offset, " where ", size, " more were expected");
      Require(done > 0, "cannot read '", path_, "': ", std::strerror(errno));
      bytes += done, offset += done, size -= done;
    }
  }
  void Sync() {
    const bool done = fsync(fd_) == 0;
    Require(done, "cannot write '", path_, "' to disk: ", std::strerror(errno));
  }

 private:
  std::string path_;
  int fd_;
};

// A checksum that a rank has made, as five numbers that can be gathered.
constexpr int64_t kBlockNumbers = 5;  // part, quantity, first row, rows, crc32

void CreateFiles(const std::string& folder, const std::vector<CentersPart>& parts) {
  MakeDirectories(folder);
  for (const CentersPart& part : parts) {
    const Param& param = *part.param;
    for (const auto& [quantity, tensor] : part.quantities) {
      DataFile file(DataPath(folder, FileStem(param), quantity, NameOf(param.dtype)),
                    O_WRONLY | O_CREAT | O_TRUNC);
      file.Resize(TotalRows(param) * RowLength(param) * SizeOf(param.dtype));
    }
  }
}

// This rank's rows of one quantity; adds its checksums to `blocks`.
void WriteRows(const std::string& path, const Param& param, const Tensor& tensor, int64_t part,
               int64_t quantity, std::vector<int64_t>* blocks) {
  DataFile file(path, O_WRONLY);
  const int64_t row_bytes = RowLength(param) * SizeOf(param.dtype), rows = RowCount(param);
  const Tensor flat = tensor.Reshaped({rows, RowLength(param)});
  std::vector<char> bytes;
  for (int64_t first = 0; first < rows; first += kBlockRows) {
    const int64_t count = std::min(kBlockRows, rows - first);
    bytes.resize(static_cast<size_t>(count * row_bytes));
    flat.Rows(first, first + count).CopyToHost(bytes.data());
    const uint32_t crc = Crc32(bytes.data(), bytes.size());
    const int64_t global = param.sharded ? param.first_row + first : first;
    file.WriteAt(global * row_bytes, bytes.data(), count * row_bytes);
    blocks->insert(blocks->end(), {part, quantity, global, count, static_cast<int64_t>(crc)});
  }
  file.Sync();
}

// All ranks' numbers, in rank order.
std::vector<int64_t> Gather(const Context& ctx, const std::vector<int64_t>& mine) {
  const int64_t count = static_cast<int64_t>(mine.size()) / kBlockNumbers;
  const std::vector<int64_t> counts = ctx.comm->AllGatherNumber(count);
  int64_t total = 0;
  for (int64_t n : counts) total += n;
  Tensor part(*ctx.device, DType::kI64, {count, kBlockNumbers}),
      all(*ctx.device, DType::kI64, {total, kBlockNumbers});
  part.FromHost(mine);
  ctx.comm->AllGather(part, counts, &all);
  return all.ToHost<int64_t>();
}

void WriteHeaders(const std::string& folder, const std::vector<CentersPart>& parts,
                  const std::vector<int64_t>& blocks) {
  for (size_t p = 0; p < parts.size(); ++p) {
    const Param& param = *parts[p].param;
    CentersHeader header;
    header.set_rows(TotalRows(param));
    header.set_dim(RowLength(param));
    header.set_dtype(NameOf(param.dtype));
    for (size_t q = 0; q < parts[p].quantities.size(); ++q) {
      header.add_quantity(parts[p].quantities[q].first);
      for (size_t b = 0; b < blocks.size(); b += kBlockNumbers) {
        if (blocks[b] != static_cast<int64_t>(p) || blocks[b + 1] != static_cast<int64_t>(q)) continue;
        CentersHeader::Block* block = header.add_block();
        block->set_quantity(parts[p].quantities[q].first);
        block->set_first_row(blocks[b + 2]);
        block->set_rows(blocks[b + 3]);
        block->set_crc32(static_cast<uint32_t>(blocks[b + 4]));
      }
    }
    WriteFile(HeaderPath(folder, FileStem(param)), ToText(header));
  }
}

bool Has(const CentersHeader& header, const std::string& quantity) {
  return std::find(header.quantity().begin(), header.quantity().end(), quantity) != header.quantity().end();
}

CentersHeader ReadHeader(const std::string& path) {
  CentersHeader header;
  ReadText(path, &header);
  Require(header.has_rows() && header.has_dim() && header.rows() >= 0 && header.dim() > 0, "'", path,
          "' does not give rows and dim");
  Require(header.dtype() == "f32" || header.dtype() == "f64", "'", path, "' has dtype \"", header.dtype(),
          "\", f32 or f64 was expected");
  std::map<std::string, int64_t> next;
  for (const CentersHeader::Block& block : header.block()) {
    int64_t& row = next[block.quantity()];
    Require(Has(header, block.quantity()) && block.first_row() == row && block.rows() > 0, "'", path,
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
void CheckLength(const DataFile& file, const std::string& path, const CentersHeader& header, int64_t size) {
  const int64_t wanted = header.rows() * header.dim() * size;
  Require(file.size() == wanted, "'", path, "' has ", file.size(), " bytes, ", wanted, " were expected (",
          header.rows(), " rows of ", header.dim(), " numbers of ", header.dtype(), ")");
}

// Rows [first, last) of a quantity into `out`, block by block, so that every checksum that they touch is
// checked.
void ReadRows(const std::string& path, const CentersHeader& header, const std::string& quantity,
              int64_t first, int64_t last, int64_t row_bytes, char* out) {
  DataFile file(path, O_RDONLY);
  CheckLength(file, path, header, row_bytes / header.dim());
  bool any = false;
  std::vector<char> bytes;
  for (const CentersHeader::Block& block : header.block()) {
    if (block.quantity() != quantity) continue;
    any = true;
    const int64_t begin = std::max(first, block.first_row()),
                  end = std::min(last, block.first_row() + block.rows());
    if (begin >= end) continue;
    bytes.resize(static_cast<size_t>(block.rows() * row_bytes));
    file.ReadAt(block.first_row() * row_bytes, bytes.data(), block.rows() * row_bytes);
    Require(Crc32(bytes.data(), bytes.size()) == block.crc32(), "'", path, "' is damaged: rows ",
            block.first_row(), " to ", block.first_row() + block.rows() - 1,
            " do not have the checksum of its header");
    std::memcpy(out + (begin - first) * row_bytes, bytes.data() + (begin - block.first_row()) * row_bytes,
                static_cast<size_t>((end - begin) * row_bytes));
  }
  if (!any) file.ReadAt(first * row_bytes, out, (last - first) * row_bytes);  // written without checksums
}

void ReadPart(const std::string& folder, const CentersPart& part) {
  const Param& param = *part.param;
  const std::string stem = FileStem(param), header_path = HeaderPath(folder, stem);
  const CentersHeader header = ReadHeader(header_path);
  Require(header.rows() == TotalRows(param) && header.dim() == RowLength(param), "'", header_path, "' has ",
          header.rows(), " rows of ", header.dim(), " numbers, but weight '", param.name, "' of the net has ",
          TotalRows(param), " of ", RowLength(param));
  const int64_t first = param.sharded ? param.first_row : 0, rows = RowCount(param);
  const int64_t size = header.dtype() == "f64" ? 8 : 4, count = rows * RowLength(param);
  for (const auto& [quantity, tensor] : part.quantities) {
    Require(Has(header, quantity), "'", header_path, "' has no quantity \"", quantity, "\"");
    std::vector<char> bytes(static_cast<size_t>(count * size));
    ReadRows(DataPath(folder, stem, quantity, header.dtype()), header, quantity, first, first + rows,
             RowLength(param) * size, bytes.data());
    if (size == SizeOf(param.dtype)) {
      tensor->CopyFromHost(bytes.data(), count);
    } else if (size == 8) {
      const double* from = reinterpret_cast<const double*>(bytes.data());
      tensor->FromHost(std::vector<float>(from, from + count));
    } else {
      const float* from = reinterpret_cast<const float*>(bytes.data());
      tensor->FromHost(std::vector<double>(from, from + count));
    }
  }
}

std::vector<std::string> StemsIn(const std::string& folder) {
  std::vector<std::string> stems;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().extension() == ".txt") stems.push_back(entry.path().stem());
  Require(!error, "cannot read the folder '", folder, "': ", error.message());
  std::sort(stems.begin(), stems.end());
  return stems;
}

}  // namespace

std::vector<CentersPart> ShardedParts(Optimizer* optimizer) {
  std::vector<CentersPart> parts;
  for (Optimizer::State& state : optimizer->states()) {
    if (!state.param->sharded) continue;
    CentersPart part{state.param, {{"weight", &state.param->value}}};
    for (size_t i = 0; i < state.slots.size(); ++i)
      part.quantities.emplace_back(optimizer->slot_names()[i], &state.slots[i]);
    parts.push_back(std::move(part));
  }
  return parts;
}

void WriteCenters(const Context& ctx, const std::string& folder, const std::vector<CentersPart>& parts) {
  AgreeOnRoot(ctx, [&] { CreateFiles(folder, parts); });
  std::vector<int64_t> mine;
  AgreeOn(ctx, [&] {
    for (size_t p = 0; p < parts.size(); ++p) {
      const Param& param = *parts[p].param;
      for (size_t q = 0; q < parts[p].quantities.size(); ++q) {
        const auto& [quantity, tensor] = parts[p].quantities[q];
        WriteRows(DataPath(folder, FileStem(param), quantity, NameOf(param.dtype)), param, *tensor,
                  static_cast<int64_t>(p), static_cast<int64_t>(q), &mine);
      }
    }
  });
  const std::vector<int64_t> blocks = Gather(ctx, mine);
  AgreeOnRoot(ctx, [&] { WriteHeaders(folder, parts, blocks); });
}

void ReadCenters(const Context& ctx, const std::string& folder, const std::vector<CentersPart>& parts) {
  AgreeOn(ctx, [&] {
    for (const CentersPart& part : parts) ReadPart(folder, part);
  });
}

std::vector<std::string> LoadCenterWeights(const Context& ctx, const std::string& folder, Net* net) {
  std::vector<std::string> unknown;
  AgreeOn(ctx, [&] {
    const std::vector<std::string> stems = StemsIn(folder);
    Require(!stems.empty(), "the folder '", folder, "' has no header (.txt) of class centres");
    for (const std::string& stem : stems) {
      const auto found = std::find_if(net->params().begin(), net->params().end(),
                                      [&](const Param* param) { return FileStem(*param) == stem; });
      if (found == net->params().end()) {
        unknown.push_back(stem);
      } else {
        ReadPart(folder, {*found, {{"weight", &(*found)->value}}});
      }
    }
  });
  return unknown;
}

void CheckCenters(const std::string& folder) {
  for (const std::string& stem : StemsIn(folder)) {
    const CentersHeader header = ReadHeader(HeaderPath(folder, stem));
    for (const std::string& quantity : header.quantity()) {
      const std::string path = DataPath(folder, stem, quantity, header.dtype());
      CheckLength(DataFile(path, O_RDONLY), path, header, header.dtype() == "f64" ? 8 : 4);
    }
  }
}

}  // namespace crema
