// Floor 3, the evaluation wing. 1:1 verification: are two images of the same person? Lists of image pairs,
// embeddings to distances, and the measures the field reports. Called by tools, by the VerificationAccuracy
// layer and by embedders.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crema/error.hpp"

namespace crema {

// Two images, by number, and whether they show the same person.
struct FacePair {
  int64_t first = 0, second = 0;
  bool same = false;
  int64_t fold = -1;  // of a list that has folds, else -1
};

struct PairList {
  std::vector<std::string> images;  // paths, each image once
  std::vector<FacePair> pairs;      // in the list's order
  int64_t folds = 0;                // 0: the list has none
};

// Reads a list of pairs in one of two forms, told apart by the first line:
//  * LFW's pairs.txt: a header "folds n" (or only "n": no folds), then for each fold n lines "Name i j" (same
//    person) and n lines "Name1 i Name2 j"; image i of Name is root/Name/Name_%04d.jpg (or .png, .jpeg);
//  * lines "a b same": two paths below root and 1 or 0. Columns are separated by blanks, or by tabs where a
//  line
//    has one, so that paths may hold blanks.
// Throws Error naming the list, the line, what was found and what was expected; also where an image does not
// exist.
PairList ReadPairList(const std::string& list, const std::string& root);

// Folds for pairs that have none: the same pairs and the different pairs, each in their order, are cut into
// `folds` runs whose lengths differ by one at most. On lists whose every fold has the same share of same
// pairs (LFW, CFP-FP, AgeDB-30) these are the plain unshuffled folds of insightface's verification.py.
std::vector<int64_t> MakeFolds(const std::vector<uint8_t>& same, int64_t folds);

// Scales each of the rows to unit length; a row of zeros stays. Throws Error for a value that is not finite.
void NormalizeRows(int64_t rows, int64_t columns, float* values);
// |a - b|^2 of each pair of rows of unit-length embeddings [images, columns]: 0 equal, 2 orthogonal, 4
// opposite.
std::vector<double> PairDistances(const std::vector<float>& embeddings, int64_t columns,
                                  const std::vector<FacePair>& pairs);

// One operating point: pairs with a distance of at most `threshold` are accepted as the same person.
struct RocPoint {
  double threshold = 0;
  double far = 0;  // share of the different pairs that is accepted (false accept rate)
  double tar = 0;  // share of the same pairs that is accepted (true accept rate)
};

struct Verification {
  int64_t pairs = 0, same_pairs = 0, different_pairs = 0, folds = 0;
  // The threshold, out of 0, 0.01, ... 3.99 and "d < threshold", that is right most often on the other folds
  // (the first of equals), applied to each fold: mean and standard deviation over the folds, as in
  // insightface's verification.py. With one fold the threshold is chosen on the pairs it is applied to.
  double accuracy = 0, deviation = 0;
  std::vector<double> fold_accuracy, fold_threshold;
  double threshold = 0;  // the one that is right most often on all pairs
  // All operating points, from accepting nothing to accepting all: one per distinct distance.
  std::vector<RocPoint> roc;
  double auc = 0;  // area under the ROC: the probability that a same pair is closer than a different one
  double eer = 0;  // where FAR = 1 - TAR, linear between the two points around it
};

// `fold` numbers each pair's fold from 0. Throws Error unless there are same and different pairs and each
// fold has a pair.
Verification Verify(const std::vector<double>& distance, const std::vector<uint8_t>& same,
                    const std::vector<int64_t>& fold);
// Only the accuracy's part of it; pairs of one kind will do.
Verification VerifyAccuracy(const std::vector<double>& distance, const std::vector<uint8_t>& same,
                            const std::vector<int64_t>& fold);

// The highest TAR of an operating point whose FAR is at most `far`: a step function, nothing interpolated.
// Nothing where far * different_pairs < 1, since so few pairs cannot tell such a rate.
std::optional<double> TarAtFar(const Verification& verification, double far);
// Different pairs that the rate needs: 1 / far, rounded up.
int64_t PairsForFar(double far);

}  // namespace crema
