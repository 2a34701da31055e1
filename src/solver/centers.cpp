#include "solver/centers.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <mutex>

#include "base/crc32.hpp"
#include "crema/bfloat16.hpp"
#include "crema/io.hpp"
#include "crema/parallel.hpp"
#include "crema/permutation.hpp"
#include "solver/agree.hpp"

namespace crema {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

constexpr int64_t kBlockRows = 1 << 16;  // rows of a checksum
constexpr int64_t kPieceRows = 1 << 12;  // rows that are read or written at a time

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

int64_t TotalRows(const Param& param) {
  return param.sharded ? param.total_rows : param.row_count();
}

// f(i) for i in [0, count) on all threads; rethrows what the first of them threw.
template <class F>
void ForEachAtOnce(const Context& ctx, int64_t count, const F& f) {
  std::mutex mutex;
  std::exception_ptr failure;
  ForEachTask(ctx, count, [&](int64_t i, int) {
    try {
      f(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (failure == nullptr) failure = std::current_exception();
    }
  });
  if (failure != nullptr) std::rethrow_exception(failure);
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
  void ReadAt(int64_t offset, char* bytes, int64_t size) const {
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
      file.Resize(TotalRows(param) * param.row_length() * SizeOf(param.dtype));
    }
  }
}

// Rows [begin, end) of a tensor in a buffer, and their checksum so far.
struct Piece {
  std::vector<char> bytes;
  uint32_t crc = 0;
};

// This rank's rows of one quantity; adds its checksums to `blocks`.
void WriteRows(const Context& ctx, const std::string& path, const Param& param, const Tensor& tensor,
               int64_t part, int64_t quantity, std::vector<int64_t>* blocks) {
  DataFile file(path, O_WRONLY);
  const int64_t row_bytes = param.row_length() * SizeOf(param.dtype), rows = param.row_count();
  const Tensor flat = tensor.Reshaped({rows, param.row_length()});
  const int64_t before = param.sharded ? param.first_row : 0, count = (rows + kBlockRows - 1) / kBlockRows;
  std::vector<int64_t> checksums(static_cast<size_t>(count));
  ForEachAtOnce(ctx, count, [&](int64_t block) {
    Piece piece;
    const int64_t end = std::min((block + 1) * kBlockRows, rows);
    for (int64_t row = block * kBlockRows; row < end; row += kPieceRows) {
      const int64_t last = std::min(row + kPieceRows, end);
      piece.bytes.resize(static_cast<size_t>((last - row) * row_bytes));
      flat.Rows(row, last).CopyToHost(piece.bytes.data());
      param.UsedRows(row, last);
      piece.crc = Crc32(piece.bytes.data(), piece.bytes.size(), piece.crc);
      file.WriteAt((before + row) * row_bytes, piece.bytes.data(), (last - row) * row_bytes);
    }
    checksums[static_cast<size_t>(block)] = static_cast<int64_t>(piece.crc);
  });
  file.Sync();
  for (int64_t block = 0; block < count; ++block) {
    const int64_t first = block * kBlockRows;
    blocks->insert(blocks->end(), {part, quantity, before + first, std::min(kBlockRows, rows - first),
                                   checksums[static_cast<size_t>(block)]});
  }
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
    header.set_dim(param.row_length());
    header.set_dtype(NameOf(param.dtype));
    if (param.assignment) header.set_assignment(*param.assignment);
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

DType StoredType(const CentersHeader& header, const std::string& path) {
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    if (header.dtype() == NameOf(dtype)) return dtype;
  }
  Fail("'", path, "' has dtype \"", header.dtype(), "\", f32, f64 or bf16 was expected");
}

CentersHeader ReadHeader(const std::string& path) {
  CentersHeader header;
  ReadText(path, &header);
  Require(header.has_rows() && header.has_dim() && header.rows() >= 0 && header.dim() > 0, "'", path,
          "' does not give rows and dim");
  StoredType(header, path);
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

// Numbers of one type as another.
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

// A quantity's file and the rows of it that a rank wants.
struct Source {
  const std::string& path;
  const DataFile& file;
  DType dtype;
  const Param& param;
  int64_t first;  // global number of the param's first row
};

// Those rows of a block that the rank owns into `tensor`, where there is one; all rows are read, for the
// checksum.
void ReadBlock(const Source& source, const CentersHeader::Block& block, Tensor* tensor) {
  const Param& param = source.param;
  const int64_t length = param.row_length(), row_bytes = length * SizeOf(source.dtype);
  Piece piece;
  std::vector<char> converted;
  const int64_t block_end = block.first_row() + block.rows();
  for (int64_t row = block.first_row(); row < block_end; row += kPieceRows) {
    const int64_t end = std::min(row + kPieceRows, block_end);
    piece.bytes.resize(static_cast<size_t>((end - row) * row_bytes));
    source.file.ReadAt(row * row_bytes, piece.bytes.data(), (end - row) * row_bytes);
    piece.crc = Crc32(piece.bytes.data(), piece.bytes.size(), piece.crc);
    const int64_t begin = std::max(row, source.first), stop = std::min(end, source.first + param.row_count());
    if (tensor == nullptr || begin >= stop) continue;
    const char* bytes = piece.bytes.data() + (begin - row) * row_bytes;
    if (source.dtype != param.dtype) {
      Convert(source.dtype, bytes, param.dtype, (stop - begin) * length, &converted);
      bytes = converted.data();
    }
    tensor->Reshaped({param.row_count(), length})
        .Rows(begin - source.first, stop - source.first)
        .CopyFromHost(bytes, (stop - begin) * length);
    param.UsedRows(begin - source.first, stop - source.first);
  }
  Require(!block.has_crc32() || piece.crc == block.crc32(), "'", source.path, "' is damaged: rows ",
          block.first_row(), " to ", block_end - 1, " do not have the checksum of its header");
}

// The blocks of a quantity that hold rows of [first, last); of files without checksums, made up.
std::vector<CentersHeader::Block> BlocksOf(const CentersHeader& header, const std::string& quantity,
                                           int64_t first, int64_t last) {
  std::vector<CentersHeader::Block> blocks;
  bool any = false;
  for (const CentersHeader::Block& block : header.block()) {
    if (block.quantity() != quantity) continue;
    any = true;
    if (block.first_row() < last && block.first_row() + block.rows() > first) blocks.push_back(block);
  }
  for (int64_t row = first; !any && row < last; row += kBlockRows) {
    blocks.emplace_back();
    blocks.back().set_first_row(row);
    blocks.back().set_rows(std::min(kBlockRows, last - row));
  }
  return blocks;
}

// Rows of classes that lie elsewhere in the file than in the param, one by one.
void ReadScattered(const Context& ctx, const Source& source, const CentersHeader& header, Tensor* tensor) {
  const Param& param = source.param;
  const int64_t length = param.row_length(), row_bytes = length * SizeOf(source.dtype);
  const Tensor flat = tensor->Reshaped({param.row_count(), length});
  ForEachAtOnce(ctx, (param.row_count() + kPieceRows - 1) / kPieceRows, [&](int64_t piece) {
    std::vector<char> bytes(static_cast<size_t>(row_bytes)), converted;
    const int64_t begin = piece * kPieceRows, end = std::min(begin + kPieceRows, param.row_count());
    for (int64_t row = begin; row < end; ++row) {
      const int64_t c = param.ClassOfRow(source.first + row);
      const int64_t at = header.has_assignment() ? Permutation(header.assignment(), header.rows())(c) : c;
      source.file.ReadAt(at * row_bytes, bytes.data(), row_bytes);
      Convert(source.dtype, bytes.data(), param.dtype, length, &converted);
      flat.Rows(row, row + 1).CopyFromHost(converted.data(), length);
    }
    param.UsedRows(begin, end);
  });
}

void ReadPart(const Context& ctx, const std::string& folder, const CentersPart& part) {
  const Param& param = *part.param;
  const std::string stem = FileStem(param), header_path = HeaderPath(folder, stem);
  const CentersHeader header = ReadHeader(header_path);
  Require(header.rows() == TotalRows(param) && header.dim() == param.row_length(), "'", header_path, "' has ",
          header.rows(), " rows of ", header.dim(), " numbers, but weight '", param.name, "' of the net has ",
          TotalRows(param), " of ", param.row_length());
  const int64_t first = param.sharded ? param.first_row : 0;
  const DType dtype = StoredType(header, header_path);
  for (const auto& [quantity, tensor] : part.quantities) {
    Require(Has(header, quantity), "'", header_path, "' has no quantity \"", quantity, "\"");
    const std::string path = DataPath(folder, stem, quantity, header.dtype());
    const DataFile file(path, O_RDONLY);
    CheckLength(file, path, header, SizeOf(dtype));
    const Source source{path, file, dtype, param, first};
    const std::vector<CentersHeader::Block> blocks =
        BlocksOf(header, quantity, first, first + param.row_count());
    const bool in_order =
        header.has_assignment() ? param.assignment == header.assignment() : !param.assignment;
    ForEachAtOnce(ctx, static_cast<int64_t>(blocks.size()), [&](int64_t i) {
      Tensor to = *tensor;
      ReadBlock(source, blocks[static_cast<size_t>(i)], in_order ? &to : nullptr);
    });
    if (!in_order) ReadScattered(ctx, source, header, tensor);
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
        WriteRows(ctx, DataPath(folder, FileStem(param), quantity, NameOf(param.dtype)), param, *tensor,
                  static_cast<int64_t>(p), static_cast<int64_t>(q), &mine);
      }
    }
  });
  const std::vector<int64_t> blocks = Gather(ctx, mine);
  AgreeOnRoot(ctx, [&] { WriteHeaders(folder, parts, blocks); });
}

void ReadCenters(const Context& ctx, const std::string& folder, const std::vector<CentersPart>& parts) {
  AgreeOn(ctx, [&] {
    for (const CentersPart& part : parts) ReadPart(ctx, folder, part);
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
        ReadPart(ctx, folder, {*found, {{"weight", &(*found)->value}}});
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
      CheckLength(DataFile(path, O_RDONLY), path, header, SizeOf(StoredType(header, path)));
    }
  }
}

}  // namespace crema
