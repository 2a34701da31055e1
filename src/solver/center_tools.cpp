#include "solver/center_tools.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <numeric>
#include <sstream>

#include "crema/io.hpp"
#include "crema/philox.hpp"
#include "solver/center_files.hpp"

namespace crema {
namespace {

// One quantity of a folder, as float32.
class Quantity {
 public:
  Quantity(const std::string& folder, const std::string& stem, const CentersHeader& header,
           const std::string& quantity)
      : header_(header),
        dtype_(StoredType(header, CentersHeaderPath(folder, stem))),
        file_(CentersDataPath(folder, stem, quantity, header.dtype()), O_RDONLY) {
    CheckLength(file_, header, SizeOf(dtype_));
  }
  // `count` rows in the order of the file.
  void Read(int64_t row, int64_t count, std::vector<float>* out) const {
    const int64_t numbers = count * header_.dim();
    std::vector<char> bytes(static_cast<size_t>(numbers * SizeOf(dtype_))), converted;
    file_.ReadAt(row * header_.dim() * SizeOf(dtype_), bytes.data(), static_cast<int64_t>(bytes.size()));
    Convert(dtype_, bytes.data(), DType::kF32, numbers, &converted);
    out->resize(static_cast<size_t>(numbers));
    std::memcpy(out->data(), converted.data(), converted.size());
  }
  void ReadClass(int64_t c, std::vector<float>* out) const { Read(RowOfClass(header_, c), 1, out); }

 private:
  const CentersHeader& header_;
  DType dtype_;
  DataFile file_;
};

double Norm(const float* row, int64_t dim) {
  double squares = 0;
  for (int64_t d = 0; d < dim; ++d) squares += static_cast<double>(row[d]) * static_cast<double>(row[d]);
  return std::sqrt(squares);
}

std::vector<float> Norms(const Context& ctx, const Quantity& weight, const CentersHeader& header) {
  std::vector<float> norms(static_cast<size_t>(header.rows()));
  ForEachAtOnce(ctx, (header.rows() + kCentersPieceRows - 1) / kCentersPieceRows, [&](int64_t piece) {
    const int64_t begin = piece * kCentersPieceRows, end = std::min(begin + kCentersPieceRows, header.rows());
    std::vector<float> rows;
    weight.Read(begin, end - begin, &rows);
    for (int64_t row = begin; row < end; ++row)
      norms[static_cast<size_t>(row)] =
          static_cast<float>(Norm(rows.data() + (row - begin) * header.dim(), header.dim()));
  });
  return norms;
}

void SummariseNorms(std::vector<float> norms, CentersSummary* summary) {
  const auto bad = std::partition(norms.begin(), norms.end(), [](float x) { return std::isfinite(x); });
  summary->not_finite = norms.end() - bad;
  norms.erase(bad, norms.end());
  if (norms.empty()) return;
  const auto middle = norms.begin() + static_cast<int64_t>(norms.size() / 2);
  std::nth_element(norms.begin(), middle, norms.end());
  summary->median_norm = static_cast<double>(*middle);
  summary->least_norm = static_cast<double>(*std::min_element(norms.begin(), norms.end()));
  summary->greatest_norm = static_cast<double>(*std::max_element(norms.begin(), norms.end()));
}

void SummariseDraws(const std::string& folder, const std::string& stem, CentersSummary* summary) {
  const std::vector<int32_t> last = LastDrawnOf(folder, stem, summary->rows);
  constexpr int64_t kSpans = 10;
  summary->last_drawn.assign(kSpans, 0);
  summary->last_iteration = last.empty() ? 0 : *std::max_element(last.begin(), last.end());
  for (int32_t at : last) {
    if (at <= 0) {
      ++summary->never_drawn;
    } else {
      ++summary->last_drawn[static_cast<size_t>((at - 1) * kSpans / summary->last_iteration)];
    }
  }
}

// Unit rows of classes spread evenly, compared with one another by one product.
void FindClosest(const Context& ctx, const Quantity& weight, int64_t sample, size_t pairs,
                 CentersSummary* summary) {
  const int64_t n = std::min(sample, summary->rows), dim = summary->dim;
  summary->sampled = n;
  if (n < 2) return;
  std::vector<float> unit(static_cast<size_t>(n * dim)), cosine(static_cast<size_t>(n * n)), row;
  const auto class_of = [&](int64_t i) { return i * summary->rows / n; };
  for (int64_t i = 0; i < n; ++i) {
    weight.ReadClass(class_of(i), &row);
    const double norm = std::max(Norm(row.data(), dim), 1e-12);
    for (int64_t d = 0; d < dim; ++d)
      unit[static_cast<size_t>(i * dim + d)] =
          static_cast<float>(static_cast<double>(row[static_cast<size_t>(d)]) / norm);
  }
  const GemmShape product{false, true, n, n, dim, 0, 0, 0};
  ctx.device->Gemm(DType::kF32, product, 1, unit.data(), unit.data(), 0, cosine.data());
  std::vector<CloseClasses> all;
  for (int64_t i = 0; i < n; ++i) {
    // The closest of each class, so that the list stays as long as the sample.
    CloseClasses best{class_of(i), -1, -2};
    for (int64_t j = i + 1; j < n; ++j) {
      const double c = static_cast<double>(cosine[static_cast<size_t>(i * n + j)]);
      if (c > best.cosine) best.b = class_of(j), best.cosine = c;
    }
    if (best.b >= 0) all.push_back(best);
  }
  const size_t kept = std::min(pairs, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<int64_t>(kept), all.end(),
                    [](const auto& x, const auto& y) { return x.cosine > y.cosine; });
  all.resize(kept);
  summary->closest = std::move(all);
}

// What each new class is made of; empty: a new one.
std::vector<std::vector<int64_t>> ReadMap(const std::string& path, int64_t classes) {
  std::ifstream in(path);
  Require(in.good(), "cannot read the map '", path, "'");
  std::vector<std::vector<int64_t>> map;
  for (std::string line; std::getline(in, line);) {
    map.emplace_back();
    std::istringstream words(line);
    bool any = false;
    for (std::string word; words >> word; any = true) {
      if (word == "new" && map.back().empty() && (words >> std::ws).eof()) continue;
      const bool is_number = word.size() < 19 && word.find_first_not_of("0123456789") == std::string::npos;
      Require(is_number && std::stoll(word) < classes, "'", path, "', line ", map.size(), ": '", word,
              "' found where old classes, 0 to ", classes - 1, ", or the one word new were expected");
      map.back().push_back(std::stoll(word));
    }
    Require(any, "'", path, "', line ", map.size(), " is empty; old classes, 0 to ", classes - 1,
            ", or the one word new were expected");
  }
  Require(!map.empty(), "the map '", path, "' is empty");
  return map;
}

// The row of a new class: the mean of the old ones', or, with a norm, a random direction of that norm.
void MakeRow(const Quantity& from, const std::vector<int64_t>& classes, int64_t index, double norm,
             std::vector<float>* row) {
  if (classes.empty()) {
    const Philox random = MakePhilox(0, "centers/new");
    for (size_t d = 0; d < row->size(); ++d)
      (*row)[d] =
          norm > 0 ? static_cast<float>(random.Normal(static_cast<uint64_t>(index) * row->size() + d)) : 0;
    const double length = Norm(row->data(), static_cast<int64_t>(row->size()));
    for (float& x : *row) x = length > 0 ? static_cast<float>(static_cast<double>(x) * norm / length) : 0;
    return;
  }
  std::vector<float> one;
  std::fill(row->begin(), row->end(), 0.f);
  for (int64_t c : classes) {
    from.ReadClass(c, &one);
    for (size_t d = 0; d < row->size(); ++d) (*row)[d] += one[d] / static_cast<float>(classes.size());
  }
}

}  // namespace

CentersSummary SummariseCenters(const Context& ctx, const std::string& folder, const std::string& stem,
                                int64_t sample, size_t pairs) {
  const CentersHeader header = ReadCentersHeader(CentersHeaderPath(folder, stem));
  CentersSummary summary;
  summary.rows = header.rows(), summary.dim = header.dim(), summary.dtype = header.dtype();
  summary.quantities.assign(header.quantity().begin(), header.quantity().end());
  const Quantity weight(folder, stem, header, "weight");
  SummariseNorms(Norms(ctx, weight, header), &summary);
  if (header.last_drawn()) SummariseDraws(folder, stem, &summary);
  FindClosest(ctx, weight, sample, pairs, &summary);
  return summary;
}

std::string ToText(const CentersSummary& s) {
  std::ostringstream out;
  out << s.rows << " classes of " << s.dim << " numbers, " << s.dtype << "; quantities:";
  for (const std::string& quantity : s.quantities) out << " " << quantity;
  out << "\nnorms: least " << s.least_norm << ", median " << s.median_norm << ", greatest "
      << s.greatest_norm;
  if (s.not_finite > 0) out << "; " << s.not_finite << " rows are not finite";
  out << "\n";
  if (!s.last_drawn.empty()) {
    out << "last drawn, classes by iteration:\n  never " << s.never_drawn << "\n";
    for (size_t k = 0; k < s.last_drawn.size(); ++k) {
      const int64_t spans = static_cast<int64_t>(s.last_drawn.size()), span = static_cast<int64_t>(k);
      out << "  " << span * s.last_iteration / spans + 1 << " to " << (span + 1) * s.last_iteration / spans
          << ": " << s.last_drawn[k] << "\n";
    }
  }
  out << "closest among " << s.sampled << " classes:\n";
  for (const CloseClasses& pair : s.closest)
    out << "  " << pair.a << " and " << pair.b << ": cosine " << pair.cosine << "\n";
  return out.str();
}

void ExtractCenters(const std::string& folder, const std::string& stem, const std::vector<int64_t>& classes,
                    const std::string& npy) {
  const CentersHeader header = ReadCentersHeader(CentersHeaderPath(folder, stem));
  const Quantity weight(folder, stem, header, "weight");
  std::string head = Concat("{'descr': '<f4', 'fortran_order': False, 'shape': (", classes.size(), ", ",
                            header.dim(), "), }");
  head.resize((head.size() + 1 + 10 + 63) / 64 * 64 - 10 - 1,
              ' ');  // magic and length: 10 bytes; end of line: 1
  head += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(head.size() & 255);
  bytes += static_cast<char>(head.size() >> 8);
  bytes += head;
  std::vector<float> row;
  for (int64_t c : classes) {
    Require(c >= 0 && c < header.rows(), "class ", c, " is not in '", folder, "', which has ", header.rows());
    weight.ReadClass(c, &row);
    bytes.append(reinterpret_cast<const char*>(row.data()), row.size() * sizeof(float));
  }
  WriteFile(npy, bytes);
}

void RemapCenters(const Context& ctx, const std::string& folder, const std::string& stem,
                  const std::string& map_path, const std::string& new_folder) {
  const CentersHeader header = ReadCentersHeader(CentersHeaderPath(folder, stem));
  const std::vector<std::vector<int64_t>> map = ReadMap(map_path, header.rows());
  Require(!FileExists(CentersHeaderPath(new_folder, stem)), "'", CentersHeaderPath(new_folder, stem),
          "' is there already; a new folder was expected");
  MakeDirectories(new_folder);
  CentersSummary norms;
  SummariseNorms(Norms(ctx, Quantity(folder, stem, header, "weight"), header), &norms);
  const DType dtype = StoredType(header, CentersHeaderPath(folder, stem));
  CentersHeader made;
  made.set_rows(static_cast<int64_t>(map.size()));
  made.set_dim(header.dim());
  made.set_dtype(header.dtype());
  for (const std::string& quantity : header.quantity()) {
    made.add_quantity(quantity);
    const Quantity from(folder, stem, header, quantity);
    DataFile to(CentersDataPath(new_folder, stem, quantity, header.dtype()), O_WRONLY | O_CREAT | O_TRUNC);
    const int64_t blocks = (made.rows() + kCentersBlockRows - 1) / kCentersBlockRows;
    std::vector<uint32_t> checksums(static_cast<size_t>(blocks));
    ForEachAtOnce(ctx, blocks, [&](int64_t block) {
      std::vector<float> row(static_cast<size_t>(header.dim()));
      std::vector<char> bytes;
      uint32_t crc = 0;
      const int64_t end = std::min((block + 1) * kCentersBlockRows, made.rows());
      for (int64_t c = block * kCentersBlockRows; c < end; ++c) {
        MakeRow(from, map[static_cast<size_t>(c)], c, quantity == "weight" ? norms.median_norm : 0, &row);
        Convert(DType::kF32, reinterpret_cast<const char*>(row.data()), dtype, header.dim(), &bytes);
        crc = Checksum(bytes.data(), static_cast<int64_t>(bytes.size()), crc);
        to.WriteAt(c * static_cast<int64_t>(bytes.size()), bytes.data(), static_cast<int64_t>(bytes.size()));
      }
      checksums[static_cast<size_t>(block)] = crc;
    });
    to.Sync();
    for (int64_t block = 0; block < blocks; ++block) {
      CentersHeader::Block* sum = made.add_block();
      sum->set_quantity(quantity);
      sum->set_first_row(block * kCentersBlockRows);
      sum->set_rows(std::min(kCentersBlockRows, made.rows() - block * kCentersBlockRows));
      sum->set_crc32(checksums[static_cast<size_t>(block)]);
    }
  }
  WriteFile(CentersHeaderPath(new_folder, stem), ToText(made));
}

}  // namespace crema
