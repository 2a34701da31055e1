#include "solver/centers.hpp"

#include <fcntl.h>

#include <algorithm>

#include "base/crc32.hpp"
#include "crema/bfloat16.hpp"
#include "crema/io.hpp"
#include "crema/parallel.hpp"
#include "solver/agree.hpp"
#include "solver/center_files.hpp"

namespace crema {
namespace {

// "fc7/0" -> "fc7.0"; characters that a file name cannot hold become _.
std::string FileStem(const Param& param) {
  std::string stem = param.name;
  const size_t slash = stem.find_last_of('/');
  if (slash != std::string::npos) stem[slash] = '.';
  std::replace(stem.begin(), stem.end(), '/', '_');
  return stem;
}

int64_t TotalRows(const Param& param) {
  return param.sharded ? param.total_rows : param.row_count();
}

// A checksum that a rank has made, as five numbers that can be gathered.
constexpr int64_t kBlockNumbers = 5;  // part, quantity, first row, rows, crc32

void CreateFiles(const std::string& folder, const std::vector<CentersPart>& parts) {
  MakeDirectories(folder);
  for (const CentersPart& part : parts) {
    const Param& param = *part.param;
    for (const auto& [quantity, tensor] : part.quantities) {
      DataFile file(CentersDataPath(folder, FileStem(param), quantity, NameOf(param.dtype)),
                    O_WRONLY | O_CREAT | O_TRUNC);
      file.Resize(TotalRows(param) * param.row_length() * SizeOf(param.dtype));
    }
    if (part.last_drawn != nullptr) {
      DataFile file(LastDrawnPath(folder, FileStem(param)), O_WRONLY | O_CREAT | O_TRUNC);
      file.Resize(TotalRows(param) * static_cast<int64_t>(sizeof(int32_t)));
    }
  }
}

void WriteLastDrawn(const std::string& folder, const CentersPart& part) {
  if (part.last_drawn == nullptr) return;
  DataFile file(LastDrawnPath(folder, FileStem(*part.param)), O_WRONLY);
  const std::vector<int32_t> numbers = part.last_drawn->ToHost<int32_t>();
  file.WriteAt(part.param->first_row * static_cast<int64_t>(sizeof(int32_t)),
               reinterpret_cast<const char*>(numbers.data()), part.last_drawn->bytes());
  file.Sync();
}

// Rows of a folder that says nothing of it count as never drawn.
void ReadLastDrawn(const std::string& folder, const CentersHeader& header, const CentersPart& part) {
  if (part.last_drawn == nullptr) return;
  part.last_drawn->Zero();
  if (!header.last_drawn()) return;
  const std::vector<int32_t> all = LastDrawnOf(folder, FileStem(*part.param), header.rows());
  std::vector<int32_t> mine(static_cast<size_t>(part.last_drawn->count()));
  for (size_t row = 0; row < mine.size(); ++row) {
    const int64_t c = part.param->ClassOfRow(part.param->first_row + static_cast<int64_t>(row));
    mine[row] = all[static_cast<size_t>(RowOfClass(header, c))];
  }
  part.last_drawn->FromHost(mine);
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
  const int64_t before = param.sharded ? param.first_row : 0,
                count = (rows + kCentersBlockRows - 1) / kCentersBlockRows;
  std::vector<int64_t> checksums(static_cast<size_t>(count));
  ForEachAtOnce(ctx, count, [&](int64_t block) {
    Piece piece;
    const int64_t end = std::min((block + 1) * kCentersBlockRows, rows);
    for (int64_t row = block * kCentersBlockRows; row < end; row += kCentersPieceRows) {
      const int64_t last = std::min(row + kCentersPieceRows, end);
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
    const int64_t first = block * kCentersBlockRows;
    blocks->insert(blocks->end(), {part, quantity, before + first, std::min(kCentersBlockRows, rows - first),
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
    if (parts[p].last_drawn != nullptr) header.set_last_drawn(true);
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
    WriteFile(CentersHeaderPath(folder, FileStem(param)), ToText(header));
  }
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
  for (int64_t row = block.first_row(); row < block_end; row += kCentersPieceRows) {
    const int64_t end = std::min(row + kCentersPieceRows, block_end);
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
  for (int64_t row = first; !any && row < last; row += kCentersBlockRows) {
    blocks.emplace_back();
    blocks.back().set_first_row(row);
    blocks.back().set_rows(std::min(kCentersBlockRows, last - row));
  }
  return blocks;
}

// Rows of classes that lie elsewhere in the file than in the param, one by one.
void ReadScattered(const Context& ctx, const Source& source, const CentersHeader& header, Tensor* tensor) {
  const Param& param = source.param;
  const int64_t length = param.row_length(), row_bytes = length * SizeOf(source.dtype);
  const Tensor flat = tensor->Reshaped({param.row_count(), length});
  ForEachAtOnce(ctx, (param.row_count() + kCentersPieceRows - 1) / kCentersPieceRows, [&](int64_t piece) {
    std::vector<char> bytes(static_cast<size_t>(row_bytes)), converted;
    const int64_t begin = piece * kCentersPieceRows,
                  end = std::min(begin + kCentersPieceRows, param.row_count());
    for (int64_t row = begin; row < end; ++row) {
      const int64_t c = param.ClassOfRow(source.first + row);
      const int64_t at = RowOfClass(header, c);
      source.file.ReadAt(at * row_bytes, bytes.data(), row_bytes);
      Convert(source.dtype, bytes.data(), param.dtype, length, &converted);
      flat.Rows(row, row + 1).CopyFromHost(converted.data(), length);
    }
    param.UsedRows(begin, end);
  });
}

void ReadPart(const Context& ctx, const std::string& folder, const CentersPart& part) {
  const Param& param = *part.param;
  const std::string stem = FileStem(param), header_path = CentersHeaderPath(folder, stem);
  const CentersHeader header = ReadCentersHeader(header_path);
  Require(header.rows() == TotalRows(param) && header.dim() == param.row_length(), "'", header_path, "' has ",
          header.rows(), " rows of ", header.dim(), " numbers, but weight '", param.name, "' of the net has ",
          TotalRows(param), " of ", param.row_length());
  const int64_t first = param.sharded ? param.first_row : 0;
  const DType dtype = StoredType(header, header_path);
  for (const auto& [quantity, tensor] : part.quantities) {
    Require(HasQuantity(header, quantity), "'", header_path, "' has no quantity \"", quantity, "\"");
    const std::string path = CentersDataPath(folder, stem, quantity, header.dtype());
    const DataFile file(path, O_RDONLY);
    CheckLength(file, header, SizeOf(dtype));
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
  ReadLastDrawn(folder, header, part);
}

}  // namespace

std::vector<CentersPart> ShardedParts(Optimizer* optimizer) {
  std::vector<CentersPart> parts;
  for (Optimizer::State& state : optimizer->states()) {
    if (!state.param->sharded) continue;
    CentersPart part{state.param, {{"weight", &state.param->value}}, nullptr};
    for (size_t i = 0; i < state.slots.size(); ++i)
      part.quantities.emplace_back(optimizer->slot_names()[i], &state.slots[i]);
    if (state.rows != nullptr) part.last_drawn = &state.rows->last_drawn();
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
        WriteRows(ctx, CentersDataPath(folder, FileStem(param), quantity, NameOf(param.dtype)), param,
                  *tensor, static_cast<int64_t>(p), static_cast<int64_t>(q), &mine);
      }
      WriteLastDrawn(folder, parts[p]);
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
    const std::vector<std::string> stems = CentersStems(folder);
    Require(!stems.empty(), "the folder '", folder, "' has no header (.txt) of class centres");
    for (const std::string& stem : stems) {
      const auto found = std::find_if(net->params().begin(), net->params().end(),
                                      [&](const Param* param) { return FileStem(*param) == stem; });
      if (found == net->params().end()) {
        unknown.push_back(stem);
      } else {
        ReadPart(ctx, folder, {*found, {{"weight", &(*found)->value}}, nullptr});
      }
    }
  });
  return unknown;
}

void CheckCenters(const std::string& folder) {
  for (const std::string& stem : CentersStems(folder)) {
    const CentersHeader header = ReadCentersHeader(CentersHeaderPath(folder, stem));
    for (const std::string& quantity : header.quantity()) {
      const std::string path = CentersDataPath(folder, stem, quantity, header.dtype());
      CheckLength(DataFile(path, O_RDONLY), header, SizeOf(StoredType(header, path)));
    }
    if (header.last_drawn()) LastDrawnOf(folder, stem, header.rows());
  }
}

}  // namespace crema
