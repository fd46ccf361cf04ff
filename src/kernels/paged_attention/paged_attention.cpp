// The fast attention. Both products (query x keys, weights x values) are the same small kernel:
// rows of f32 times a panel of 16 or 32 lanes, summed over its depth in rising order. Few rows read
// pages in their own type; many rows first convert a page to f32 in the first-level cache.

#include "kernels/paged_attention/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/paged_attention/paged_attention.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/contrib/math/math-inl.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

// Sums of a register tile: 12 (AVX2, 16 registers) or 24 (AVX-512, 32 registers).
constexpr int kTileSums = kLanes == 16 ? 24 : 12;
constexpr int64_t kBlockPages = kAttentionBlockTokens / kPageTokens;
// From here on a page is converted to f32 once instead of at each use.
constexpr int64_t kConvertRows = 13;
// How far ahead of its use a page's part is fetched.
constexpr int64_t kChunksAhead = 2;
// At most this many rows are split over blocks (decode); more rows are enough parallel work alone.
constexpr int64_t kSplitRows = 4;

HWY_INLINE Vector load(const float* address) {
  return hn::LoadU(kFloats, address);
}
HWY_INLINE Vector load(const hwy::float16_t* address) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  return hn::PromoteTo(kFloats, hn::LoadU(halves, address));
}

HWY_INLINE Vector load(const hwy::bfloat16_t* address) {
  const hn::Rebind<hwy::bfloat16_t, Floats> halves;
  return hn::PromoteTo(kFloats, hn::LoadU(halves, address));
}
HWY_INLINE Vector load(const int8_t* address) {
  const hn::Rebind<int8_t, Floats> bytes;
  const hn::RebindToSigned<Floats> integers;
  return hn::ConvertTo(kFloats, hn::PromoteTo(integers, hn::LoadU(bytes, address)));
}

// c [kRows, kVectors * kLanes] (+)= a [kRows, depth] · b [depth, ...]; with `fetch`, brings as much
// of `next`, which has the strides of b, into the cache.
template <bool fetch, int kRows, int kVectors, class Element>
HWY_INLINE void multiply_tile(const float* HWY_RESTRICT a,
                              int64_t a_stride,
                              const Element* HWY_RESTRICT b,
                              int64_t b_stride,
                              const std::byte* next,
                              int64_t depth,
                              bool resume,
                              float* HWY_RESTRICT c,
                              int64_t c_stride) {
  constexpr int64_t kBytes = kVectors * kLanes * static_cast<int64_t>(sizeof(Element));
  Vector sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = resume ? load(c + r * c_stride + v * kLanes) : hn::Zero(kFloats);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vector lanes[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      lanes[v] = load(b + k * b_stride + v * kLanes);
    }
    for (int64_t byte = 0; fetch && byte < kBytes; byte += 64) {
      fetch_ahead(next + k * b_stride * static_cast<int64_t>(sizeof(Element)) + byte);
    }
    for (int r = 0; r < kRows; ++r) {
      const Vector value = hn::Set(kFloats, a[r * a_stride + k]);
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = hn::MulAdd(value, lanes[v], sums[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(sums[r][v], kFloats, c + r * c_stride + v * kLanes);
    }
  }
}

// All rows over 16 * kHalves lanes, in register tiles.
template <bool fetch, int kHalves, class Element>
HWY_INLINE void multiply_lanes(int64_t rows,
                               const float* a,
                               int64_t a_stride,
                               const Element* b,
                               int64_t b_stride,
                               const std::byte* next,
                               int64_t depth,
                               bool resume,
                               float* c,
                               int64_t c_stride) {
  constexpr int kVectors = kHalves * 16 / kLanes;
  constexpr int kMostRows = std::max(1, kTileSums / kVectors);
  int64_t row = 0;
  const auto run = [&](auto count) HWY_ATTR {
    multiply_tile<fetch, count.value, kVectors>(a + row * a_stride,
                                                a_stride,
                                                b,
                                                b_stride,
                                                next,
                                                depth,
                                                resume,
                                                c + row * c_stride,
                                                c_stride);
    row += count.value;
  };
  while (row + kMostRows <= rows) {
    run(std::integral_constant<int, kMostRows>());
  }
  while (row + 3 <= rows) {
    run(std::integral_constant<int, 3>());
  }
  while (row < rows) {
    run(std::integral_constant<int, 1>());
  }
}

// c [rows, lanes] (+)= a [rows, depth] · b [depth, lanes]; lanes a multiple of 16. Pages are too
// short for the hardware to follow, so where b is one, `next` is what will be read after it.
template <bool fetch, class Element>
HWY_INLINE void multiply(int64_t rows,
                         const float* a,
                         int64_t a_stride,
                         const Element* b,
                         const std::byte* next,
                         int64_t lanes,
                         int64_t depth,
                         bool resume,
                         float* c,
                         int64_t c_stride) {
  int64_t lane = 0;
  const auto run = [&](auto halves) HWY_ATTR {
    multiply_lanes<fetch, halves.value>(rows,
                                        a,
                                        a_stride,
                                        b + lane,
                                        lanes,
                                        next + lane * static_cast<int64_t>(sizeof(Element)),
                                        depth,
                                        resume,
                                        c + lane,
                                        c_stride);
    lane += 16 * halves.value;
  };
  while (lane + 32 <= lanes) {
    run(std::integral_constant<int, 2>());
  }
  if (lane < lanes) {
    run(std::integral_constant<int, 1>());
  }
}

// count a multiple of 16.
HWY_INLINE float maximum_of(const float* values, int64_t count) {
  Vector largest = load(values);
  for (int64_t i = kLanes; i < count; i += kLanes) {
    largest = hn::Max(largest, load(values + i));
  }
  return hn::GetLane(hn::MaxOfLanes(kFloats, largest));
}

// values = exp(values - largest); returns their sum. count a multiple of 16.
HWY_INLINE float exponentiate(float* values, int64_t count, float largest) {
  Vector sums[kParts];
  for (int part = 0; part < kParts; ++part) {
    sums[part] = hn::Zero(kFloats);
  }
  const Vector shift = hn::Set(kFloats, largest);
  for (int64_t i = 0; i < count; i += 16) {
    for (int part = 0; part < kParts; ++part) {
      float* address = values + i + part * kLanes;
      const Vector weight = hn::Exp(kFloats, hn::Sub(load(address), shift));
      hn::StoreU(weight, kFloats, address);
      sums[part] = hn::Add(sums[part], weight);
    }
  }
  return sum_of_sixteen(sums);
}

// values = cap * tanh(values / cap); count a multiple of 16. NaN stays.
HWY_INLINE void cap_softly(float* values, int64_t count, float cap) {
  const Vector caps = hn::Set(kFloats, cap);
  const Vector shares = hn::Set(kFloats, 1.0F / cap);
  for (int64_t i = 0; i < count; i += kLanes) {
    const Vector tangent = hn::Tanh(kFloats, hn::Mul(load(values + i), shares));
    hn::StoreU(hn::Mul(caps, tangent), kFloats, values + i);
  }
}

HWY_INLINE float exponential(float value) {
  return hn::GetLane(hn::Exp(kFloats, hn::Set(kFloats, value)));
}

// A row's softmax state: weights relative to `largest`, their total, and the weighted values.
struct RowState {
  float largest = -INFINITY;
  float total = 0;
  bool empty = true;  // no token seen so far
};

// state, values [head_dim] take in a later block's state and values.
HWY_INLINE void merge(RowState& state,
                      float* values,
                      const RowState& block,
                      const float* block_values,
                      int64_t head_dim) {
  if (block.empty) {
    return;
  }
  if (state.empty) {
    state = block;
    std::copy_n(block_values, head_dim, values);
    return;
  }
  const float largest = std::max(state.largest, block.largest);
  const float old_share = exponential(state.largest - largest);
  const float new_share = exponential(block.largest - largest);
  state.largest = largest;
  state.total = state.total * old_share + block.total * new_share;
  for (int64_t dim = 0; dim < head_dim; dim += kLanes) {
    hn::StoreU(hn::MulAdd(load(block_values + dim),
                          hn::Set(kFloats, new_share),
                          hn::Mul(load(values + dim), hn::Set(kFloats, old_share))),
               kFloats,
               values + dim);
  }
}

// Buffers of a thread. m = row * group + head within the group.
struct Workspace {
  std::vector<float> query;         // [m, head_dim], scaled
  std::vector<float> scores;        // [m, kAttentionBlockTokens]
  std::vector<float> block_values;  // [m, head_dim]
  std::vector<float> values;        // [m, head_dim]
  std::vector<RowState> block_states;
  std::vector<RowState> states;
  std::vector<float> tile;  // one page of one head as f32: key or value

  void prepare(int64_t m, int64_t head_dim) {
    const auto rows = static_cast<size_t>(m);
    const auto width = static_cast<size_t>(head_dim);
    query.resize(rows * width);
    scores.resize(rows * kAttentionBlockTokens);
    block_values.resize(rows * width);
    values.resize(rows * width);
    block_states.resize(rows);
    states.assign(rows, RowState());
    tile.resize(width * kPageTokens);
  }
};

// Rows [first, first + count) of one sequence and one kv head.
struct Tile {
  const PagedAttention& attention;
  const AttentionSequence& sequence;
  int64_t kv_head;
  int64_t first;
  int64_t count;
  int64_t begin;  // the lowest rank that a row sees

  int64_t group() const { return attention.shape.heads / attention.shape.kv_heads; }
  int64_t m() const { return count * group(); }
  // A page's rows read it in its own form; rows that see both ways read every page so.
  bool is_own(int64_t page) const {
    return sequence.bidirectional || page == (sequence.first_rank + first) / kPageTokens;
  }
  // Ranks [begin_of(row), end_of(row)) are what a row of the sequence sees.
  int64_t begin_of(int64_t row) const {
    return sequence.first_visible == nullptr
               ? 0
               : sequence.first_visible[kv_head * sequence.first_visible_head_stride + row];
  }
  int64_t end_of(int64_t row) const {
    return sequence.first_rank + (sequence.bidirectional ? sequence.rows : row + 1);
  }
  int64_t end() const { return end_of(first + count - 1); }  // of all rows
  int64_t row_offset(int64_t index) const {                  // floats, into query and output
    return ((first + index / group()) * attention.shape.heads + kv_head * group() +
            index % group()) *
           attention.shape.head_dim;
  }
};

int64_t lowest_begin(const Tile& tile) {
  int64_t lowest = tile.begin_of(tile.first);
  for (int64_t row = tile.first + 1; row < tile.first + tile.count; ++row) {
    lowest = std::min(lowest, tile.begin_of(row));
  }
  return lowest;
}

void gather_query(const Tile& tile, Workspace& workspace) {
  const int64_t head_dim = tile.attention.shape.head_dim;
  for (int64_t m = 0; m < tile.m(); ++m) {
    const float* source = tile.sequence.query + tile.row_offset(m);
    float* target = workspace.query.data() + m * head_dim;
    for (int64_t dim = 0; dim < head_dim; ++dim) {
      target[dim] = source[dim] * tile.attention.shape.scale;
    }
  }
}

template <class Element>
void convert(const Element* source, int64_t count, float* target) {
  for (int64_t i = 0; i < count; i += kLanes) {
    hn::StoreU(load(source + i), kFloats, target + i);
  }
}

// key tile [head_dim, 32] of page `page`, rotated to its ranks.
void rotate_tile(const KeyRotation& rotation, int64_t head_dim, int64_t page, float* key) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const int64_t place = (page * half + i) * kPageTokens;
    for (int64_t token = 0; token < kPageTokens; token += kLanes) {
      float* low_address = key + i * kPageTokens + token;
      float* high_address = low_address + half * kPageTokens;
      const Vector low = load(low_address);
      const Vector high = load(high_address);
      const Vector cosine = load(rotation.cosine + place + token);
      const Vector sine = load(rotation.sine + place + token);
      hn::StoreU(hn::NegMulAdd(high, sine, hn::Mul(low, cosine)), kFloats, low_address);
      hn::StoreU(hn::MulAdd(low, sine, hn::Mul(high, cosine)), kFloats, high_address);
    }
  }
}

enum class Part : uint8_t { kKey, kValue };

// Calls body(pointer to the elements of one kv head's keys or values in a page, their 32 scales or
// null).
template <class Body>
HWY_INLINE void with_elements(const Tile& tile, int64_t page, Part part, Body&& body) {
  const bool own = tile.is_own(page);
  const std::byte* bytes = own ? tile.sequence.own_pages[page] : tile.sequence.pages[page];
  const PageType type = own ? tile.attention.own_page_type : tile.attention.page_type;
  const AttentionShape& shape = tile.attention.shape;
  const int64_t head = tile.kv_head + (part == Part::kKey ? 0 : shape.kv_heads);
  const int64_t first = head * shape.head_dim * kPageTokens;
  const float* no_scales = nullptr;
  switch (type) {
    case PageType::kF32:
      return body(reinterpret_cast<const float*>(bytes) + first, no_scales);
    case PageType::kF16:
      return body(reinterpret_cast<const hwy::float16_t*>(bytes) + first, no_scales);
    case PageType::kBF16:
      return body(reinterpret_cast<const hwy::bfloat16_t*>(bytes) + first, no_scales);
    case PageType::kInt8: {
      const std::byte* scales = bytes + 2 * shape.kv_heads * shape.head_dim * kPageTokens;
      return body(reinterpret_cast<const int8_t*>(bytes) + first,
                  reinterpret_cast<const float*>(scales) + head * kPageTokens);
    }
  }
}

// Each row's numbers of a page's tokens times the tokens' scales.
HWY_INLINE void scale_tokens(int64_t rows, const float* scales, float* values) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t token = 0; token < kPageTokens; token += kLanes) {
      float* address = values + row * kAttentionBlockTokens + token;
      hn::StoreU(hn::Mul(load(address), load(scales + token)), kFloats, address);
    }
  }
}

const std::byte* address_of(const Tile& tile, int64_t page, Part part) {
  const std::byte* address = nullptr;
  with_elements(tile, page, part, [&](const auto* elements, const float*) {
    address = reinterpret_cast<const std::byte*>(elements);
  });
  return address;
}

// `next`: what is read after this page.
void score_page(
    const Tile& tile, int64_t page, int64_t place, const std::byte* next, Workspace& workspace) {
  const int64_t head_dim = tile.attention.shape.head_dim;
  const KeyRotation& rotation = tile.attention.key_rotation;
  float* scores = workspace.scores.data() + place * kPageTokens;
  const float* token_scales = nullptr;
  with_elements(tile, page, Part::kKey, [&](const auto* key, const float* scales) HWY_ATTR {
    token_scales = scales;
    const auto multiply_keys = [&](auto fetch, const auto* keys) HWY_ATTR {
      multiply<fetch.value>(tile.m(),
                            workspace.query.data(),
                            head_dim,
                            keys,
                            next,
                            kPageTokens,
                            head_dim,
                            false,
                            scores,
                            kAttentionBlockTokens);
    };
    if (tile.m() < kConvertRows && rotation.cosine == nullptr) {
      return multiply_keys(std::true_type(), key);
    }
    convert(key, head_dim * kPageTokens, workspace.tile.data());
    if (rotation.cosine != nullptr) {
      rotate_tile(rotation, head_dim, page, workspace.tile.data());
    }
    multiply_keys(std::false_type(), workspace.tile.data());
  });
  if (token_scales != nullptr) {
    scale_tokens(tile.m(), token_scales, scores);
  }
}

// Tokens [first, end) of a page; `resume` adds to what earlier pages gave.
void weigh_page(const Tile& tile,
                int64_t page,
                int64_t place,
                int64_t first,
                int64_t end,
                bool resume,
                const std::byte* next,
                Workspace& workspace) {
  const int64_t head_dim = tile.attention.shape.head_dim;
  with_elements(tile, page, Part::kValue, [&](const auto* value, const float* scales) HWY_ATTR {
    if (scales != nullptr) {  // nobody needs the weights themselves any more
      scale_tokens(tile.m(), scales, workspace.scores.data() + place * kPageTokens);
    }
    const float* weights = workspace.scores.data() + place * kPageTokens + first;
    const auto multiply_values = [&](auto fetch, const auto* values) HWY_ATTR {
      multiply<fetch.value>(tile.m(),
                            weights,
                            kAttentionBlockTokens,
                            values,
                            next,
                            head_dim,
                            end - first,
                            resume,
                            workspace.block_values.data(),
                            head_dim);
    };
    if (tile.m() < kConvertRows) {
      return multiply_values(std::true_type(), value + first * head_dim);
    }
    convert(value + first * head_dim, (end - first) * head_dim, workspace.tile.data());
    multiply_values(std::false_type(), workspace.tile.data());
  });
}

// Turns scores [begin, end) of a row's block into weights, of which it sees [first, last).
RowState weigh_scores(float* scores, int64_t begin, int64_t end, int64_t first, int64_t last) {
  if (first >= last) {
    std::fill(scores + begin, scores + end, 0.0F);
    return {};
  }
  std::fill(scores + begin, scores + first, -INFINITY);
  std::fill(scores + last, scores + end, -INFINITY);
  const float largest = maximum_of(scores + begin, end - begin);
  return {largest, exponentiate(scores + begin, end - begin, largest), false};
}

// Softmax and weighted values of one block of 256 tokens: block_states, block_values. `next`: what
// this thread reads after it, null where that is not known.
void attend_block(const Tile& tile, int64_t block, const std::byte* next, Workspace& workspace) {
  const int64_t first_page = block * kBlockPages;
  const int64_t first_token = block * kAttentionBlockTokens;
  // Places of the block: tokens [skipped, tokens) are seen by some row, pages [first_place, pages)
  // hold them.
  const int64_t skipped = std::max<int64_t>(tile.begin - first_token, 0);
  const int64_t tokens = std::min(kAttentionBlockTokens, tile.end() - first_token);
  const int64_t first_place = skipped / kPageTokens;
  const int64_t pages = (tokens + kPageTokens - 1) / kPageTokens;
  // What is read: the pages' keys, then their values, then `next`.
  const int64_t count = pages - first_place;
  const auto chunk = [&](int64_t index) {
    if (index < 2 * count) {
      const Part part = index < count ? Part::kKey : Part::kValue;
      return address_of(tile, first_page + first_place + index % count, part);
    }
    return next == nullptr ? address_of(tile, first_page + first_place, Part::kKey) : next;
  };
  for (int64_t place = first_place; place < pages; ++place) {
    score_page(
        tile, first_page + place, place, chunk(place - first_place + kChunksAhead), workspace);
  }
  const float softcap = tile.attention.shape.softcap;
  for (int64_t m = 0; m < tile.m(); ++m) {
    float* scores = workspace.scores.data() + m * kAttentionBlockTokens;
    const int64_t begin = first_place * kPageTokens;
    const int64_t end = pages * kPageTokens;
    if (softcap != 0) {
      cap_softly(scores + begin, end - begin, softcap);
    }
    const int64_t row = tile.first + m / tile.group();
    workspace.block_states[static_cast<size_t>(m)] =
        weigh_scores(scores,
                     begin,
                     end,
                     std::max(tile.begin_of(row) - first_token, begin),
                     std::min(tile.end_of(row) - first_token, tokens));
  }
  for (int64_t place = first_place; place < pages; ++place) {
    // Places outside [skipped, tokens) hold whatever the page held before: never multiplied, not
    // even by zero.
    const int64_t page_token = place * kPageTokens;
    weigh_page(tile,
               first_page + place,
               place,
               std::max<int64_t>(skipped - page_token, 0),
               std::min(kPageTokens, tokens - page_token),
               place > first_place,
               chunk(count + place - first_place + kChunksAhead),
               workspace);
  }
}

void store_output(const Tile& tile, const RowState* states, const float* values) {
  const int64_t head_dim = tile.attention.shape.head_dim;
  for (int64_t m = 0; m < tile.m(); ++m) {
    const Vector total = hn::Set(kFloats, states[m].total);
    float* target = tile.sequence.output + tile.row_offset(m);
    for (int64_t dim = 0; dim < head_dim; dim += kLanes) {
      hn::StoreU(hn::Div(load(values + m * head_dim + dim), total), kFloats, target + dim);
    }
  }
}

int64_t first_block(const Tile& tile) {
  return tile.begin / kAttentionBlockTokens;
}
int64_t end_block(const Tile& tile) {
  return (tile.end() + kAttentionBlockTokens - 1) / kAttentionBlockTokens;
}
int64_t block_count(const Tile& tile) {
  return end_block(tile) - first_block(tile);
}

void attend_tile(const Tile& tile, Workspace& workspace) {
  const int64_t head_dim = tile.attention.shape.head_dim;
  workspace.prepare(tile.m(), head_dim);
  gather_query(tile, workspace);
  for (int64_t block = first_block(tile); block < end_block(tile); ++block) {
    attend_block(tile, block, nullptr, workspace);
    for (int64_t m = 0; m < tile.m(); ++m) {
      merge(workspace.states[static_cast<size_t>(m)],
            workspace.values.data() + m * head_dim,
            workspace.block_states[static_cast<size_t>(m)],
            workspace.block_values.data() + m * head_dim,
            head_dim);
    }
  }
  store_output(tile, workspace.states.data(), workspace.values.data());
}

// One block of a tile that is split over threads; its partial result waits in `partials`.
struct SplitItem {
  int64_t tile;
  int64_t block;
  int64_t state_offset;  // into SplitPartials
};

struct SplitPartials {
  std::vector<RowState> states;  // [item, m]
  std::vector<float> values;     // [item, m, head_dim]
};

void run_split_item(const Tile& tile,
                    const SplitItem& item,
                    const std::byte* next,
                    Workspace& workspace,
                    SplitPartials& partials) {
  const int64_t head_dim = tile.attention.shape.head_dim;
  workspace.prepare(tile.m(), head_dim);
  gather_query(tile, workspace);
  attend_block(tile, item.block, next, workspace);
  std::copy_n(workspace.block_states.data(), tile.m(), partials.states.data() + item.state_offset);
  std::copy_n(workspace.block_values.data(),
              tile.m() * head_dim,
              partials.values.data() + item.state_offset * head_dim);
}

void merge_split_tile(const Tile& tile,
                      int64_t state_offset,
                      Workspace& workspace,
                      const SplitPartials& partials) {
  const int64_t head_dim = tile.attention.shape.head_dim;
  workspace.prepare(tile.m(), head_dim);
  for (int64_t block = 0; block < block_count(tile); ++block) {
    for (int64_t m = 0; m < tile.m(); ++m) {
      const int64_t place = state_offset + block * tile.m() + m;
      merge(workspace.states[static_cast<size_t>(m)],
            workspace.values.data() + m * head_dim,
            partials.states[static_cast<size_t>(place)],
            partials.values.data() + place * head_dim,
            head_dim);
    }
  }
  store_output(tile, workspace.states.data(), workspace.values.data());
}

void attend(const PagedAttention& attention, std::span<const AttentionSequence> sequences) {
  static thread_local Workspace workspace;
  static thread_local std::vector<Tile> whole;
  static thread_local std::vector<Tile> split;
  static thread_local std::vector<SplitItem> items;
  static thread_local SplitPartials partials;
  whole.clear();
  split.clear();
  items.clear();
  int64_t states = 0;
  for (const AttentionSequence& sequence : sequences) {
    for (int64_t first = 0; first < sequence.rows;) {
      // A tile never crosses a page's end: its rows share one own page.
      const int64_t room = kPageTokens - (sequence.first_rank + first) % kPageTokens;
      const int64_t count = std::min(room, sequence.rows - first);
      for (int64_t kv_head = 0; kv_head < attention.shape.kv_heads; ++kv_head) {
        Tile tile{attention, sequence, kv_head, first, count, 0};
        tile.begin = lowest_begin(tile);
        if (sequence.rows > kSplitRows) {
          whole.push_back(tile);
          continue;
        }
        for (int64_t block = first_block(tile); block < end_block(tile); ++block) {
          items.push_back({static_cast<int64_t>(split.size()), block, states});
          states += tile.m();
        }
        split.push_back(tile);
      }
      first += count;
    }
  }
  partials.states.resize(static_cast<size_t>(states));
  partials.values.resize(static_cast<size_t>(states * attention.shape.head_dim));
  // Later tiles see more tokens; starting with them leaves no long one for the end.
  // The captured references reach this thread's buffers: thread_local names would not.
  const auto& whole_tiles = whole;
  const auto& split_tiles = split;
  const auto& split_items = items;
  auto& split_partials = partials;
  const auto num_whole = static_cast<int64_t>(whole.size());
  const auto num_items = static_cast<int64_t>(items.size());
  // Neighbouring blocks go to one thread, which fetches the second while it works on the first.
  constexpr int64_t kPartsPerThread = 8;
  const int64_t grain =
      num_whole > 0 ? 1 : std::max<int64_t>(1, num_items / (core::num_threads() * kPartsPerThread));
  core::parallel_items(num_whole + num_items, grain, [&](int64_t item) {
    if (item < num_whole) {
      attend_tile(whole_tiles[static_cast<size_t>(num_whole - 1 - item)], workspace);
      return;
    }
    const SplitItem& part = split_items[static_cast<size_t>(item - num_whole)];
    const std::byte* next = nullptr;
    if (item + 1 < num_whole + num_items) {
      const SplitItem& following = split_items[static_cast<size_t>(item + 1 - num_whole)];
      const Tile& tile = split_tiles[static_cast<size_t>(following.tile)];
      const int64_t page = std::max(following.block * kBlockPages, tile.begin / kPageTokens);
      next = address_of(tile, page, Part::kKey);
    }
    run_split_item(
        split_tiles[static_cast<size_t>(part.tile)], part, next, workspace, split_partials);
  });
  int64_t offset = 0;
  for (const Tile& tile : split) {
    merge_split_tile(tile, offset, workspace, partials);
    offset += block_count(tile) * tile.m();
  }
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {
namespace {

HWY_EXPORT(attend);

void check_visible(const AttentionShape& shape, const AttentionSequence& sequence) {
  if (sequence.first_visible == nullptr) {
    return;
  }
  core::check(!sequence.bidirectional, "first_visible or bidirectional, not both");
  const int64_t stride = sequence.first_visible_head_stride;
  core::check(stride == 0 || stride >= sequence.rows,
              "first_visible_head_stride 0 or at least ",
              sequence.rows,
              ", got ",
              stride);
  for (int64_t head = 0; head < (stride == 0 ? 1 : shape.kv_heads); ++head) {
    for (int64_t row = 0; row < sequence.rows; ++row) {
      const int64_t rank = sequence.first_visible[head * stride + row];
      const int64_t last = sequence.first_rank + row;
      core::check(rank >= 0 && rank <= last, "first_visible in 0 .. ", last, ", got ", rank);
    }
  }
}

}  // namespace

void paged_attention(const PagedAttention& attention,
                     std::span<const AttentionSequence> sequences) {
  const AttentionShape& shape = attention.shape;
  core::check(shape.heads % shape.kv_heads == 0,
              "heads % kv_heads, got ",
              shape.heads,
              " and ",
              shape.kv_heads);
  core::check(shape.head_dim % 16 == 0, "head_dim % 16, got ", shape.head_dim);
  core::check(shape.softcap >= 0, "softcap >= 0, got ", shape.softcap);
  for (const AttentionSequence& sequence : sequences) {
    check_visible(shape, sequence);
  }
  HWY_DYNAMIC_DISPATCH(attend)(attention, sequences);
}

}  // namespace adze::kernels
#endif
