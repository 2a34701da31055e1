#include "solver/centers.hpp"

#include <fcntl.h>

#include <algorithm>

#include "crema/bfloat16.hpp"
#include "crema/io.hpp"
#include "crema/parallel.hpp"
#include "solver/agree.hpp"
#include "solver/center_files.hpp"

namespace crema {
namespace {

// Rows that are written, or left as they are, together: as many as draw BLOCKS draws at a time by default.
constexpr int64_t kStepRows = 64;

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

// Files of the right length in a folder, which may be there.
void CreateFiles(const std::string& folder, const std::vector<CentersPart>& parts) {
  MakeDirectories(folder);
  const auto create = [](const std::string& path, int64_t bytes) {
    DataFile(path, O_WRONLY | O_CREAT).Resize(bytes);
  };
  for (const CentersPart& part : parts) {
    const Param& param = *part.param;
    for (const auto& [quantity, tensor] : part.quantities)
      create(CentersDataPath(folder, FileStem(param), quantity, NameOf(param.dtype)),
             TotalRows(param) * param.row_length() * SizeOf(param.dtype));
    if (part.last_drawn != nullptr)
      create(LastDrawnPath(folder, FileStem(param)),
             TotalRows(param) * static_cast<int64_t>(sizeof(int32_t)));
  }
}

void WriteLastDrawn(const std::string& folder, const Param& param, const std::vector<int32_t>& numbers) {
  DataFile file(LastDrawnPath(folder, FileStem(param)), O_WRONLY);
  constexpr int64_t kBytes = sizeof(int32_t);
  file.WriteAt(param.first_row * kBytes, reinterpret_cast<const char*>(numbers.data()),
               static_cast<int64_t>(numbers.size()) * kBytes);
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

// Writes this rank's rows of a quantity.
class RowWriter {
 public:
  RowWriter(const std::string& path, const Param& param, const Tensor& tensor)
      : file_(path, O_WRONLY),
        param_(param),
        flat_(tensor.Reshaped({param.row_count(), param.row_length()})),
        row_bytes_(param.row_length() * SizeOf(param.dtype)),
        before_(param.sharded ? param.first_row : 0) {}

  // The steps that have `changed`, whose new checksums go to `sums`.
  void Write(const Context& ctx, const std::vector<char>& changed, std::vector<uint32_t>* sums) {
    constexpr int64_t kSteps = kCentersBlockRows / kStepRows, kMost = kCentersPieceRows / kStepRows;
    const int64_t steps = static_cast<int64_t>(changed.size());
    const auto has_changed = [&](int64_t step) { return changed[static_cast<size_t>(step)] != 0; };
    ForEachAtOnce(ctx, (steps + kSteps - 1) / kSteps, [&](int64_t block) {
      const int64_t end = std::min((block + 1) * kSteps, steps);
      for (int64_t step = block * kSteps, next; step < end; step = next) {
        for (next = step; next < end && next - step < kMost && has_changed(next);) ++next;
        if (next > step) {
          WriteSteps(step, next, sums);
        } else {
          ++next;
        }
      }
    });
    file_.Sync();
  }

  // Adds the checksums of blocks, as kBlockNumbers numbers each, made of those of their steps.
  void AddBlocks(int64_t part, int64_t quantity, const std::vector<uint32_t>& sums,
                 std::vector<int64_t>* blocks) const {
    const int64_t rows = param_.row_count();
    for (int64_t first = 0; first < rows; first += kCentersBlockRows) {
      const int64_t end = std::min(first + kCentersBlockRows, rows);
      uint32_t sum = 0;
      for (int64_t row = first; row < end; row += kStepRows)
        sum = JoinChecksums(sum, sums[static_cast<size_t>(row / kStepRows)],
                            std::min(kStepRows, end - row) * row_bytes_);
      blocks->insert(blocks->end(), {part, quantity, before_ + first, end - first, int64_t{sum}});
    }
  }

 private:
  void WriteSteps(int64_t begin, int64_t end, std::vector<uint32_t>* sums) {
    const int64_t first = begin * kStepRows, last = std::min(end * kStepRows, param_.row_count());
    std::vector<char> bytes(static_cast<size_t>((last - first) * row_bytes_));
    flat_.Rows(first, last).CopyToHost(bytes.data());
    param_.UsedRows(first, last);
    for (int64_t step = begin; step < end; ++step) {
      const int64_t row = step * kStepRows, count = std::min(kStepRows, last - row);
      (*sums)[static_cast<size_t>(step)] =
          Checksum(bytes.data() + (row - first) * row_bytes_, count * row_bytes_);
    }
    file_.WriteAt((before_ + first) * row_bytes_, bytes.data(), (last - first) * row_bytes_);
  }

  DataFile file_;
  const Param& param_;
  Tensor flat_;
  int64_t row_bytes_, before_;
};

// Which steps have rows that were drawn after an iteration.
std::vector<char> ChangedSteps(const std::vector<int32_t>& last_drawn, int64_t iteration) {
  std::vector<char> changed((last_drawn.size() + kStepRows - 1) / kStepRows, 0);
  for (size_t row = 0; row < last_drawn.size(); ++row)
    if (last_drawn[row] > iteration) changed[row / kStepRows] = 1;
  return changed;
}

// A part's rows of this rank, and their checksums into `sums`, by quantity, and `blocks`. Rows that nobody
// drew since `older`, where it is given, are in the folder.
void WritePart(const Context& ctx, const std::string& folder, const CentersPart& part, int64_t number,
               const CentersFolder* older, CentersFolder* made, std::vector<int64_t>* blocks) {
  const Param& param = *part.param;
  const size_t steps = static_cast<size_t>((param.row_count() + kStepRows - 1) / kStepRows);
  std::vector<char> changed(steps, 1);
  if (part.last_drawn != nullptr) {
    const std::vector<int32_t> last_drawn = part.last_drawn->ToHost<int32_t>();
    WriteLastDrawn(folder, param, last_drawn);
    if (older != nullptr) changed = ChangedSteps(last_drawn, older->iteration);
  }
  for (size_t q = 0; q < part.quantities.size(); ++q) {
    const auto& [quantity, tensor] = part.quantities[q];
    RowWriter writer(CentersDataPath(folder, FileStem(param), quantity, NameOf(param.dtype)), param, *tensor);
    std::vector<uint32_t> sums =
        older != nullptr ? older->sums[made->sums.size()] : std::vector<uint32_t>(steps);
    writer.Write(ctx, changed, &sums);
    writer.AddBlocks(number, static_cast<int64_t>(q), sums, blocks);
    made->sums.push_back(std::move(sums));
  }
  made->steps += static_cast<int64_t>(steps);
  made->steps_written += std::count(changed.begin(), changed.end(), 1);
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
  std::vector<char> read, converted;
  uint32_t crc = 0;
  const int64_t block_end = block.first_row() + block.rows();
  for (int64_t row = block.first_row(); row < block_end; row += kCentersPieceRows) {
    const int64_t end = std::min(row + kCentersPieceRows, block_end);
    read.resize(static_cast<size_t>((end - row) * row_bytes));
    source.file.ReadAt(row * row_bytes, read.data(), (end - row) * row_bytes);
    crc = Checksum(read.data(), (end - row) * row_bytes, crc);
    const int64_t begin = std::max(row, source.first), stop = std::min(end, source.first + param.row_count());
    if (tensor == nullptr || begin >= stop) continue;
    const char* bytes = read.data() + (begin - row) * row_bytes;
    if (source.dtype != param.dtype) {
      Convert(source.dtype, bytes, param.dtype, (stop - begin) * length, &converted);
      bytes = converted.data();
    }
    tensor->Reshaped({param.row_count(), length})
        .Rows(begin - source.first, stop - source.first)
        .CopyFromHost(bytes, (stop - begin) * length);
    param.UsedRows(begin - source.first, stop - source.first);
  }
  Require(!block.has_crc32() || crc == block.crc32(), "'", source.path, "' is damaged: rows ",
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
  ++part.param->rewritten;
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

CentersFolder WriteCenters(const Context& ctx, const std::string& folder, int64_t iteration,
                           const std::vector<CentersPart>& parts, const CentersFolder* older) {
  AgreeOnRoot(ctx, [&] { CreateFiles(folder, parts); });
  CentersFolder made;
  made.iteration = iteration;
  std::vector<int64_t> mine;
  AgreeOn(ctx, [&] {
    for (size_t p = 0; p < parts.size(); ++p)
      WritePart(ctx, folder, parts[p], static_cast<int64_t>(p), older, &made, &mine);
  });
  const std::vector<int64_t> blocks = Gather(ctx, mine);
  AgreeOnRoot(ctx, [&] { WriteHeaders(folder, parts, blocks); });
  return made;
}

bool CanRewriteCenters(const std::vector<CentersPart>& parts) {
  return !parts.empty() && std::all_of(parts.begin(), parts.end(), [](const CentersPart& part) {
    return part.param->memory != nullptr && part.last_drawn != nullptr && !part.param->update_all_rows;
  });
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
