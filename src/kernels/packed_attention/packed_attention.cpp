// A block is up to 96 queries - rows of all query heads that share a kv head - against 64 keys. Its
// scores stand with queries as lanes, so that maxima, sums and shares of a softmax are elementwise,
// and keys and values are read row by row as they come.

#include "kernels/packed_attention/packed_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <hwy/aligned_allocator.h>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/packed_attention/packed_attention.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/dense_matmul/multiply_strips-inl.h"
// clang-format on

#ifndef ADZE_PACKED_ATTENTION_PLAN
#define ADZE_PACKED_ATTENTION_PLAN
namespace adze::kernels {

constexpr int64_t kQueries = 96;      // lanes of a block, a multiple of every strip
constexpr int64_t kKeys = 64;         // of a block
constexpr int64_t kMostMembers = 24;  // query heads in a block
constexpr int64_t kPartRows = 2048;   // of a sequence that one thread takes
constexpr float kHidden = -1e30F;     // a score whose share is zero, but times zero is not NaN

using Memory = hwy::AlignedFreeUniquePtr<float[]>;
inline Memory allocate(int64_t count) {
  return hwy::AllocateAligned<float>(static_cast<size_t>(count));
}

// Some rows of queries of one sequence, against one kv head: the unit of work. Fixed by the
// sequence, so that sums do not depend on threads.
struct Part {
  int64_t start;   // of the sequence
  int64_t length;  // of the sequence
  int64_t kv_head;
  int64_t first;  // row of the sequence
  int64_t end;
  int64_t place;  // of its gradients of keys and values: rows before it
  int64_t keys;   // that its rows see: [0, keys)
  int64_t cost() const { return (end - first) * keys; }
};

inline std::vector<Part> parts_of(const PackedAttention& attention) {
  std::vector<Part> parts;
  int64_t place = 0;
  const auto& starts = attention.sequence_starts;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    const int64_t length = starts[i + 1] - starts[i];
    for (int64_t kv_head = 0; kv_head < attention.kv_heads; ++kv_head) {
      for (int64_t first = 0; first < length; first += kPartRows) {
        const int64_t end = std::min(first + kPartRows, length);
        const int64_t keys = attention.causal ? end : length;
        parts.push_back({starts[i], length, kv_head, first, end, place, keys});
        place += keys;
      }
    }
  }
  return parts;
}

// Runs body(part) for all parts, the longest first: threads that are free take the next.
template <class Body>
void run_parts(const std::vector<Part>& parts, Body&& body) {
  std::vector<const Part*> order;
  for (const Part& part : parts) {
    order.push_back(&part);
  }
  std::stable_sort(order.begin(), order.end(), [](const Part* a, const Part* b) {
    return a->cost() > b->cost();
  });
  core::parallel_items(static_cast<int64_t>(order.size()), 1, [&](int64_t item) {
    body(*order[static_cast<size_t>(item)]);
  });
}

}  // namespace adze::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

int64_t round_up(int64_t value) {
  return (value + kStrip - 1) / kStrip * kStrip;
}

// exp(x) for x <= 0, within 4e-7 of itself; 0 below -87 and for NaN. Half the work of Highway's,
// which serves both signs and subnormal results. x = n ln 2 + r; e^r by its series, to r^6 / 720.
HWY_INLINE Vector exp_of_negative(Vector x) {
  const hn::RebindToSigned<Floats> integers;
  const Vector magic = hn::Set(kFloats, 12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer
  const Vector shifted = hn::MulAdd(x, hn::Set(kFloats, 1.44269504F), magic);
  const Vector rounded = hn::Sub(shifted, magic);
  const Vector r = hn::MulAdd(rounded, hn::Set(kFloats, -0.693147181F), x);
  Vector power = hn::Set(kFloats, 1.0F / 720);
  power = hn::MulAdd(power, r, hn::Set(kFloats, 1.0F / 120));
  power = hn::MulAdd(power, r, hn::Set(kFloats, 1.0F / 24));
  power = hn::MulAdd(power, r, hn::Set(kFloats, 1.0F / 6));
  power = hn::MulAdd(power, r, hn::Set(kFloats, 0.5F));
  power = hn::MulAdd(power, r, hn::Set(kFloats, 1.0F));
  power = hn::MulAdd(power, r, hn::Set(kFloats, 1.0F));
  // The integer stands in the lowest bits of `shifted`: it is added to the exponent.
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(integers, shifted));
  const auto result = hn::BitCast(kFloats, hn::Add(hn::BitCast(integers, power), exponent));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(kFloats, -87.0F)), result);
}

// Queries of a block: lane = member * rows + row.
struct Block {
  int64_t first_head;
  int64_t members;  // query heads
  int64_t first;    // row of the sequence
  int64_t rows;
  int64_t used() const { return members * rows; }
  int64_t lanes() const { return round_up(used()); }

  // Calls body(lane, row of the sequence, head).
  template <class Body>
  void for_lanes(Body&& body) const {
    for (int64_t member = 0; member < members; ++member) {
      for (int64_t row = 0; row < rows; ++row) {
        body(member * rows + row, first + row, first_head + member);
      }
    }
  }
};

// What a thread needs for one part beside the gradients.
class Work {
 public:
  Work(const PackedAttention& attention, const Part& part)
      : attention_(attention),
        part_(part),
        width_(round_up(attention.head_dim)),
        keys_(copy_head(attention.key)),
        values_(copy_head(attention.value)) {}

  int64_t width() const { return width_; }  // of a row of a head, zeros beyond head_dim
  const float* key(int64_t row) const { return keys_.get() + row * width_; }
  const float* value(int64_t row) const { return values_.get() + row * width_; }

  template <class Body>
  void for_blocks(Body&& body) const {
    const int64_t group = attention_.heads / attention_.kv_heads;
    for (int64_t member = 0; member < group; member += kMostMembers) {
      const int64_t members = std::min(kMostMembers, group - member);
      const int64_t rows = kQueries / members;
      for (int64_t first = part_.first; first < part_.end; first += rows) {
        body(Block{
            part_.kv_head * group + member, members, first, std::min(rows, part_.end - first)});
      }
    }
  }

  // Calls body(first key, keys, whether some of them are hidden from some lane).
  template <class Body>
  void for_keys(const Block& block, Body&& body) const {
    const int64_t last = block.first + block.rows - 1;
    const int64_t end = attention_.causal ? last + 1 : part_.length;
    const int64_t window = attention_.window;
    int64_t key = window > 0 ? std::max<int64_t>(0, block.first - window + 1) / kKeys * kKeys : 0;
    for (; key < end; key += kKeys) {
      const int64_t count = std::min(kKeys, end - key);
      const bool hidden = (attention_.causal && key + count - 1 > block.first) ||
                          (window > 0 && key <= last - window);
      body(key, count, hidden);
    }
  }

  int64_t offset(int64_t row, int64_t head) const {  // in a matrix of all heads
    return ((part_.start + row) * attention_.heads + head) * attention_.head_dim;
  }

  // columns [width, kQueries]: values of the block's rows, a lane each, times `scale`.
  void gather_columns(const float* source, const Block& block, float scale, float* columns) const {
    for (int64_t i = 0; i < attention_.head_dim; ++i) {
      std::fill_n(columns + i * kQueries + block.used(), block.lanes() - block.used(), 0.0F);
    }
    block.for_lanes([&](int64_t lane, int64_t row, int64_t head) {
      const float* values = source + offset(row, head);
      for (int64_t i = 0; i < attention_.head_dim; ++i) {
        columns[i * kQueries + lane] = values[i] * scale;
      }
    });
  }
  // rows [kQueries, width]: the same, row by row.
  void gather_rows(const float* source, const Block& block, float scale, float* rows) const {
    block.for_lanes([&](int64_t lane, int64_t row, int64_t head) {
      const float* values = source + offset(row, head);
      for (int64_t i = 0; i < attention_.head_dim; ++i) {
        rows[lane * width_ + i] = values[i] * scale;
      }
      std::fill_n(rows + lane * width_ + attention_.head_dim, width_ - attention_.head_dim, 0.0F);
    });
  }
  void positions_of(const Block& block, float* positions) const {
    std::fill_n(positions, kQueries, -1.0F);
    block.for_lanes([&](int64_t lane, int64_t row, int64_t) {
      positions[lane] = static_cast<float>(row);  // exact below 2^24
    });
  }

  // scores [keys, kQueries]: those that a lane does not see.
  HWY_INLINE void hide(
      int64_t key, int64_t keys, const float* positions, int64_t lanes, float* scores) const {
    const Vector hidden = hn::Set(kFloats, kHidden);
    const Vector window =
        hn::Set(kFloats, attention_.window > 0 ? static_cast<float>(attention_.window) : 1e30F);
    for (int64_t lane = 0; lane < lanes; lane += kLanes) {
      const Vector position = hn::LoadU(kFloats, positions + lane);
      const Vector before = hn::Sub(position, window);
      for (int64_t k = 0; k < keys; ++k) {
        float* place = scores + k * kQueries + lane;
        const Vector own = hn::Set(kFloats, static_cast<float>(key + k));
        const auto seen = hn::And(hn::Le(own, position), hn::Gt(own, before));
        hn::StoreU(hn::IfThenElse(seen, hn::LoadU(kFloats, place), hidden), kFloats, place);
      }
    }
  }

 private:
  Memory copy_head(const float* source) const {
    Memory copy = allocate(part_.keys * width_);
    const int64_t dim = attention_.head_dim;
    for (int64_t row = 0; row < part_.keys; ++row) {
      const float* values =
          source + ((part_.start + row) * attention_.kv_heads + part_.kv_head) * dim;
      std::copy_n(values, dim, copy.get() + row * width_);
      std::fill_n(copy.get() + row * width_ + dim, width_ - dim, 0.0F);
    }
    return copy;
  }

  const PackedAttention& attention_;
  const Part& part_;
  int64_t width_;
  Memory keys_;
  Memory values_;
};

// Maxima and sums of a softmax so far, a lane each.
struct Softmax {
  HWY_ALIGN float largest[kQueries];
  HWY_ALIGN float sums[kQueries];
  HWY_ALIGN float factors[kQueries];  // what earlier shares shrink by
};

// scores [keys, kQueries] become exp(score - largest). Returns whether a maximum has grown.
HWY_INLINE bool take_in(int64_t keys, int64_t lanes, float* scores, Softmax& softmax) {
  bool grown = false;
  for (int64_t lane = 0; lane < lanes; lane += kLanes) {
    const Vector before = hn::LoadU(kFloats, softmax.largest + lane);
    Vector largest = before;
    for (int64_t k = 0; k < keys; ++k) {
      largest = hn::Max(largest, hn::LoadU(kFloats, scores + k * kQueries + lane));
    }
    const Vector factor = exp_of_negative(hn::Sub(before, largest));
    Vector sum = hn::Mul(hn::LoadU(kFloats, softmax.sums + lane), factor);
    // exp_of_negative makes 0 of NaN, so what is not finite is added as zero times itself.
    Vector poison = hn::Zero(kFloats);
    for (int64_t k = 0; k < keys; ++k) {
      float* place = scores + k * kQueries + lane;
      const Vector below = hn::Sub(hn::LoadU(kFloats, place), largest);
      const Vector share = exp_of_negative(below);
      hn::StoreU(share, kFloats, place);
      sum = hn::Add(sum, share);
      poison = hn::MulAdd(below, hn::Zero(kFloats), poison);
    }
    hn::StoreU(largest, kFloats, softmax.largest + lane);
    hn::StoreU(hn::Add(sum, poison), kFloats, softmax.sums + lane);
    hn::StoreU(factor, kFloats, softmax.factors + lane);
    grown = grown || !hn::AllTrue(kFloats, hn::Eq(before, largest));
  }
  return grown;
}

void attend_block(const PackedAttention& attention,
                  const Work& work,
                  const Block& block,
                  float* memory,
                  float* result,
                  float* log_sums) {
  float* queries = memory;                            // [width, kQueries]
  float* scores = queries + work.width() * kQueries;  // [kKeys, kQueries]
  float* sums = scores + kKeys * kQueries;            // [kQueries, width]
  HWY_ALIGN float positions[kQueries];
  Softmax softmax;
  work.gather_columns(attention.query, block, attention.scale, queries);
  work.positions_of(block, positions);
  std::fill_n(softmax.largest, kQueries, kHidden);
  std::fill_n(softmax.sums, kQueries, 0.0F);
  bool first = true;
  work.for_keys(block, [&](int64_t key, int64_t keys, bool hidden) HWY_ATTR {
    multiply_strips<false>(keys,
                           block.lanes(),
                           work.key(key),
                           work.width(),
                           queries,
                           kQueries,
                           attention.head_dim,
                           false,
                           scores,
                           kQueries);
    if (hidden) {
      work.hide(key, keys, positions, block.lanes(), scores);
    }
    if (take_in(keys, block.lanes(), scores, softmax) && !first) {
      for (int64_t lane = 0; lane < block.used(); ++lane) {
        if (softmax.factors[lane] != 1) {
          const Vector factor = hn::Set(kFloats, softmax.factors[lane]);
          for (int64_t i = 0; i < work.width(); i += kLanes) {
            float* place = sums + lane * work.width() + i;
            hn::StoreU(hn::Mul(hn::LoadU(kFloats, place), factor), kFloats, place);
          }
        }
      }
    }
    multiply_strips<true>(block.used(),
                          work.width(),
                          scores,
                          kQueries,
                          work.value(key),
                          work.width(),
                          keys,
                          !first,
                          sums,
                          work.width());
    first = false;
  });
  block.for_lanes([&](int64_t lane, int64_t row, int64_t head) {
    const float share = 1 / softmax.sums[lane];
    float* target = result + work.offset(row, head);
    for (int64_t i = 0; i < attention.head_dim; ++i) {
      target[i] = sums[lane * work.width() + i] * share;
    }
    log_sums[work.offset(row, head) / attention.head_dim] =
        softmax.largest[lane] + std::log(softmax.sums[lane]);
  });
}

void attend(const PackedAttention& attention, float* result, float* log_sums) {
  const std::vector<Part> parts = parts_of(attention);
  run_parts(parts, [&](const Part& part) {
    const Work work(attention, part);
    const Memory memory = allocate((2 * work.width() + kKeys) * kQueries);
    work.for_blocks([&](const Block& block) {
      attend_block(attention, work, block, memory.get(), result, log_sums);
    });
  });
}

// scores become shares, share_gradients the gradients of scores; [keys, kQueries].
HWY_INLINE void share_gradients(int64_t keys,
                                int64_t lanes,
                                const float* log_sums,
                                const float* means,
                                float* scores,
                                float* gradients) {
  for (int64_t lane = 0; lane < lanes; lane += kLanes) {
    const Vector log_sum = hn::LoadU(kFloats, log_sums + lane);
    const Vector mean = hn::LoadU(kFloats, means + lane);
    for (int64_t k = 0; k < keys; ++k) {
      const int64_t place = k * kQueries + lane;
      const Vector share = exp_of_negative(hn::Sub(hn::LoadU(kFloats, scores + place), log_sum));
      const Vector pull = hn::Sub(hn::LoadU(kFloats, gradients + place), mean);
      hn::StoreU(share, kFloats, scores + place);
      hn::StoreU(hn::Mul(share, pull), kFloats, gradients + place);
    }
  }
}

// of_key, of_value [keys of the part, width]: added to.
void add_block_gradient(const PackedAttentionGradient& gradient,
                        const Work& work,
                        const Block& block,
                        float* memory,
                        float* of_key,
                        float* of_value) {
  const PackedAttention& attention = gradient.attention;
  const int64_t width = work.width();
  float* queries = memory;                           // [width, kQueries]
  float* pulls = queries + width * kQueries;         // [width, kQueries]
  float* query_rows = pulls + width * kQueries;      // [kQueries, width]
  float* pull_rows = query_rows + width * kQueries;  // [kQueries, width]
  float* of_query = pull_rows + width * kQueries;    // [kQueries, width]
  float* scores = of_query + width * kQueries;       // [kKeys, kQueries]
  float* gradients = scores + kKeys * kQueries;      // [kKeys, kQueries]
  HWY_ALIGN float positions[kQueries];
  HWY_ALIGN float log_sums[kQueries] = {};
  HWY_ALIGN float means[kQueries] = {};  // Σ share * its gradient
  work.gather_columns(attention.query, block, attention.scale, queries);
  work.gather_columns(gradient.result_gradient, block, 1, pulls);
  work.gather_rows(attention.query, block, attention.scale, query_rows);
  work.gather_rows(gradient.result_gradient, block, 1, pull_rows);
  work.positions_of(block, positions);
  block.for_lanes([&](int64_t lane, int64_t row, int64_t head) {
    const int64_t offset = work.offset(row, head);
    log_sums[lane] = gradient.log_sums[offset / attention.head_dim];
    float mean = 0;
    for (int64_t i = 0; i < attention.head_dim; ++i) {
      mean += gradient.result[offset + i] * gradient.result_gradient[offset + i];
    }
    means[lane] = mean;
  });
  bool first = true;
  work.for_keys(block, [&](int64_t key, int64_t keys, bool hidden) HWY_ATTR {
    const int64_t lanes = block.lanes();
    const int64_t dim = attention.head_dim;
    multiply_strips<false>(
        keys, lanes, work.key(key), width, queries, kQueries, dim, false, scores, kQueries);
    if (hidden) {
      work.hide(key, keys, positions, lanes, scores);
    }
    multiply_strips<false>(
        keys, lanes, work.value(key), width, pulls, kQueries, dim, false, gradients, kQueries);
    share_gradients(keys, lanes, log_sums, means, scores, gradients);
    multiply_strips<false>(keys,
                           width,
                           scores,
                           kQueries,
                           pull_rows,
                           width,
                           block.used(),
                           true,
                           of_value + key * width,
                           width);
    multiply_strips<false>(keys,
                           width,
                           gradients,
                           kQueries,
                           query_rows,
                           width,
                           block.used(),
                           true,
                           of_key + key * width,
                           width);
    multiply_strips<true>(block.used(),
                          width,
                          gradients,
                          kQueries,
                          work.key(key),
                          width,
                          keys,
                          !first,
                          of_query,
                          width);
    first = false;
  });
  block.for_lanes([&](int64_t lane, int64_t row, int64_t head) {
    float* target = gradient.query_gradient + work.offset(row, head);
    for (int64_t i = 0; i < attention.head_dim; ++i) {
      target[i] = of_query[lane * width + i] * attention.scale;
    }
  });
}

// Sums of parts of one sequence and head, in order.
void add_parts(const PackedAttention& attention,
               const std::vector<Part>& parts,
               const float* sums,
               int64_t width,
               float* target) {
  const int64_t rows = attention.sequence_starts.back();
  core::parallel_for(rows, 64, [&](int64_t begin, int64_t end) {
    for (const Part& part : parts) {
      const int64_t from = std::max(part.start, begin);
      const int64_t to = std::min(part.start + part.keys, end);
      for (int64_t row = from; row < to; ++row) {
        const float* values = sums + (part.place + row - part.start) * width;
        float* place = target + (row * attention.kv_heads + part.kv_head) * attention.head_dim;
        for (int64_t i = 0; i < attention.head_dim; ++i) {
          place[i] += values[i];
        }
      }
    }
  });
}

void gradient(const PackedAttentionGradient& gradient) {
  const PackedAttention& attention = gradient.attention;
  const std::vector<Part> parts = parts_of(attention);
  const int64_t width = round_up(attention.head_dim);
  const int64_t rows = parts.empty() ? 0 : parts.back().place + parts.back().keys;
  const Memory of_key = allocate(rows * width);
  const Memory of_value = allocate(rows * width);
  run_parts(parts, [&](const Part& part) {
    const Work work(attention, part);
    const Memory memory = allocate((5 * width + 2 * kKeys) * kQueries);
    float* key_sums = of_key.get() + part.place * width;
    float* value_sums = of_value.get() + part.place * width;
    std::fill_n(key_sums, part.keys * width, 0.0F);
    std::fill_n(value_sums, part.keys * width, 0.0F);
    work.for_blocks([&](const Block& block) {
      add_block_gradient(gradient, work, block, memory.get(), key_sums, value_sums);
    });
  });
  const int64_t values = attention.sequence_starts.back() * attention.kv_heads * attention.head_dim;
  std::fill_n(gradient.key_gradient, values, 0.0F);
  std::fill_n(gradient.value_gradient, values, 0.0F);
  add_parts(attention, parts, of_key.get(), width, gradient.key_gradient);
  add_parts(attention, parts, of_value.get(), width, gradient.value_gradient);
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(attend);
HWY_EXPORT(gradient);

namespace {

void check_shape(const PackedAttention& attention) {
  core::check(attention.kv_heads > 0 && attention.heads % attention.kv_heads == 0,
              "kv_heads that divide heads");
  core::check(attention.causal || attention.window == 0, "windows of causal attention alone");
  core::check(!attention.sequence_starts.empty() && attention.sequence_starts.front() == 0 &&
                  attention.sequence_starts.back() < int64_t{1} << 24,
              "sequences of fewer than 2^24 rows");
}

}  // namespace

void packed_attention(const PackedAttention& attention, float* result, float* log_sums) {
  check_shape(attention);
  HWY_DYNAMIC_DISPATCH(attend)(attention, result, log_sums);
}

void packed_attention_gradient(const PackedAttentionGradient& values) {
  check_shape(values.attention);
  HWY_DYNAMIC_DISPATCH(gradient)(values);
}

}  // namespace adze::kernels
#endif
