// The fast attention: which rows and blocks of tokens there are, who computes them, and how blocks
// come together. What happens within a page is in page_products-inl.h: few rows read pages in their
// own type, many rows first convert a page in the first-level cache.

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
#include "kernels/paged_attention/page_products-inl.h"
#include "kernels/paged_attention/row_softmax-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

constexpr int64_t kBlockPages = kAttentionBlockTokens / kPageTokens;
// How far ahead of its use one head's part of a page is fetched.
constexpr int64_t kPartsAhead = 2;
// At most this many rows are split over blocks (decode); more rows are enough parallel work alone.
constexpr int64_t kSplitRows = 4;

// Buffers of a thread for one tile. m = row * group + head within the group.
struct Workspace {
  std::vector<float> query;         // [m, head_dim], scaled
  std::vector<float> coded_query;   // the same in the basis of a codec that changes keys
  std::vector<float> scores;        // [m, kAttentionBlockTokens]
  std::vector<float> block_values;  // [m, head_dim]
  std::vector<float> coded_values;  // [m, head_dim], of coded pages in their basis
  std::vector<float> spare_values;  // these brought back
  std::vector<float> values;        // [m, head_dim]
  ValueSums sums;                   // of a block: block_values
  ValueSums coded_sums;             // coded_values
  std::vector<RowState> block_states;
  std::vector<RowState> states;
  PageScratch scratch;

  void prepare(int64_t m, int64_t head_dim) {
    const auto rows = static_cast<size_t>(m);
    const auto width = static_cast<size_t>(head_dim);
    query.resize(rows * width);
    coded_query.resize(rows * width);
    scores.resize(rows * kAttentionBlockTokens);
    block_values.resize(rows * width);
    coded_values.resize(rows * width);
    spare_values.resize(rows * width);
    values.resize(rows * width);
    block_states.resize(rows);
    states.assign(rows, RowState());
    scratch.prepare(m, head_dim);
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
  // A page's rows read it in its own form; rows that see both ways, or before anything was sealed,
  // read every page so.
  bool is_own(int64_t page) const {
    const int64_t own = (sequence.first_rank + first) / kPageTokens;
    return sequence.bidirectional || page == own || own < sequence.first_pages;
  }
  PageType type_of(int64_t page) const {
    return is_own(page) ? attention.own_page_type : attention.page_type;
  }
  PageSource source(int64_t page) const {
    return {is_own(page) ? sequence.own_pages[page] : sequence.pages[page],
            type_of(page),
            page,
            sequence.side};
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
  const PageCodec* codec = tile.attention.codec;
  if (codec != nullptr && codec->changes_keys() && tile.sequence.side != nullptr) {
    codec->query_to_basis(tile.sequence.side,
                          tile.kv_head,
                          tile.m(),
                          workspace.query.data(),
                          workspace.coded_query.data());
  }
}

// A block's sums, with the coded part of them brought back to the model's basis.
void finish_block(const Tile& tile, Workspace& workspace) {
  const ValueSums& sums = workspace.sums;
  const ValueSums& coded = workspace.coded_sums;
  if (!coded.resume) {
    return;
  }
  const int64_t count = tile.m() * tile.attention.shape.head_dim;
  float* back = sums.resume ? workspace.spare_values.data() : sums.values;
  tile.attention.codec->values_from_basis(
      tile.sequence.side, tile.kv_head, tile.m(), coded.values, back);
  for (int64_t i = 0; sums.resume && i < count; i += kLanes) {
    hn::StoreU(hn::Add(load(sums.values + i), load(back + i)), kFloats, sums.values + i);
  }
}

// What one thread reads of a block of 256 tokens: some kv heads of the same rows, all heads of a
// page in turn, so that memory is read in rising order.
class BlockPass {
 public:
  BlockPass(std::span<const Tile> tiles, int64_t block)
      : tiles_(tiles),
        block_(block),
        tokens_(std::min(kAttentionBlockTokens, tiles[0].end() - first_token())),
        pages_((tokens_ + kPageTokens - 1) / kPageTokens),
        first_place_(pages_) {
    for (const Tile& tile : tiles) {
      first_place_ = std::min(first_place_, first_place(tile));
    }
  }

  // Places of the block: tokens [skipped, tokens) are seen by some row of the tile, pages
  // [first_place, pages) hold them.
  int64_t tokens() const { return tokens_; }
  int64_t pages() const { return pages_; }
  int64_t first_token() const { return block_ * kAttentionBlockTokens; }
  int64_t skipped(const Tile& tile) const {
    return std::max<int64_t>(tile.begin - first_token(), 0);
  }
  int64_t first_place(const Tile& tile) const { return skipped(tile) / kPageTokens; }
  PageSource source(const Tile& tile, int64_t place) const {
    return tile.source(block_ * kBlockPages + place);
  }

  // Calls body(tile's index, place, what is read kPartsAhead parts later) for all parts of one
  // kind. `next`: what this thread reads after the block, null where that is not known.
  template <class Body>
  void for_parts(PagePart part, const std::byte* next, Body&& body) const {
    Reading ahead{part == PagePart::kKey ? 0 : 1, first_place_, 0};
    for (int64_t i = 0; i < kPartsAhead; ++i) {
      advance(ahead);
    }
    for (int64_t place = first_place_; place < pages_; ++place) {
      for (size_t head = 0; head < tiles_.size(); ++head) {
        if (place >= first_place(tiles_[head])) {
          body(head, place, ahead.pass == 2 ? next : address(ahead));
        }
        advance(ahead);
      }
    }
  }

  // The first thing it reads.
  const std::byte* first_part() const { return address({0, first_place_, 0}); }

 private:
  // What is read: pass 0 the keys of all pages, pass 1 their values, then what comes after the
  // block.
  struct Reading {
    int64_t pass;
    int64_t place;
    size_t head;
  };
  void advance(Reading& at) const {
    if (++at.head == tiles_.size()) {
      at.head = 0;
      if (++at.place == pages_) {
        at.place = first_place_;
        at.pass = std::min<int64_t>(at.pass + 1, 2);
      }
    }
  }
  const std::byte* address(const Reading& at) const {
    const Tile& tile = tiles_[at.head];
    return address_of(tile.attention,
                      source(tile, at.place),
                      tile.kv_head,
                      at.pass == 0 ? PagePart::kKey : PagePart::kValue);
  }

  std::span<const Tile> tiles_;
  int64_t block_;
  int64_t tokens_;
  int64_t pages_;
  int64_t first_place_;
};

// Weights of a block's scores, by rows.
void weigh_block(const BlockPass& pass, const Tile& tile, Workspace& workspace) {
  const float softcap = tile.attention.shape.softcap;
  const int64_t begin = pass.first_place(tile) * kPageTokens;
  const int64_t end = pass.pages() * kPageTokens;
  for (int64_t m = 0; m < tile.m(); ++m) {
    float* scores = workspace.scores.data() + m * kAttentionBlockTokens;
    if (softcap != 0) {
      cap_softly(scores + begin, end - begin, softcap);
    }
    const int64_t row = tile.first + m / tile.group();
    workspace.block_states[static_cast<size_t>(m)] =
        weigh_scores(scores,
                     begin,
                     end,
                     std::max(tile.begin_of(row) - pass.first_token(), begin),
                     std::min(tile.end_of(row) - pass.first_token(), pass.tokens()));
  }
}

// Softmax and weighted values of one block, a workspace a tile: block_states, block_values.
void attend_block(std::span<const Tile> tiles,
                  int64_t block,
                  const std::byte* next,
                  std::span<Workspace> workspaces) {
  const BlockPass pass(tiles, block);
  pass.for_parts(PagePart::kKey, next, [&](size_t head, int64_t place, const std::byte* ahead) {
    const Tile& tile = tiles[head];
    Workspace& workspace = workspaces[head];
    score_page(tile.attention,
               pass.source(tile, place),
               tile.kv_head,
               {tile.m(), workspace.query.data(), workspace.coded_query.data()},
               ahead,
               workspace.scores.data() + place * kPageTokens,
               kAttentionBlockTokens,
               workspace.scratch);
  });
  for (size_t head = 0; head < tiles.size(); ++head) {
    weigh_block(pass, tiles[head], workspaces[head]);
    workspaces[head].sums = {workspaces[head].block_values.data(), false};
    workspaces[head].coded_sums = {workspaces[head].coded_values.data(), false};
  }
  pass.for_parts(PagePart::kValue, next, [&](size_t head, int64_t place, const std::byte* ahead) {
    const Tile& tile = tiles[head];
    Workspace& workspace = workspaces[head];
    // Places outside [skipped, tokens) hold whatever the page held before: never multiplied, not
    // even by zero.
    const int64_t page_token = place * kPageTokens;
    weigh_page(tile.attention,
               pass.source(tile, place),
               tile.kv_head,
               tile.m(),
               workspace.scores.data() + page_token,
               kAttentionBlockTokens,
               std::max<int64_t>(pass.skipped(tile) - page_token, 0),
               std::min(kPageTokens, pass.tokens() - page_token),
               ahead,
               workspace.sums,
               workspace.coded_sums,
               workspace.scratch);
  });
  for (size_t head = 0; head < tiles.size(); ++head) {
    finish_block(tiles[head], workspaces[head]);
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
    if (tile.sequence.log_sum_exp != nullptr) {
      tile.sequence.log_sum_exp[tile.row_offset(m) / head_dim] =
          states[m].largest + std::log(states[m].total);
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
    attend_block({&tile, 1}, block, nullptr, {&workspace, 1});
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

// One block of neighbouring tiles, kv heads of the same rows, that are split over threads; their
// partial results wait in `partials`.
struct SplitItem {
  int64_t first_tile;
  int64_t tiles;
  int64_t block;
};

// Results of a tile's blocks begin at its state offset.
struct SplitPartials {
  std::vector<int64_t> offsets;  // [tile]
  std::vector<RowState> states;  // [tile, block, m]
  std::vector<float> values;     // [tile, block, m, head_dim]
};

void run_split_item(std::span<const Tile> split,
                    const SplitItem& item,
                    const std::byte* next,
                    std::vector<Workspace>& workspaces,
                    SplitPartials& partials) {
  const auto first = static_cast<size_t>(item.first_tile);
  const std::span<const Tile> tiles = split.subspan(first, static_cast<size_t>(item.tiles));
  const int64_t head_dim = tiles[0].attention.shape.head_dim;
  workspaces.resize(std::max(workspaces.size(), tiles.size()));
  for (size_t head = 0; head < tiles.size(); ++head) {
    workspaces[head].prepare(tiles[head].m(), head_dim);
    gather_query(tiles[head], workspaces[head]);
  }
  attend_block(tiles, item.block, next, {workspaces.data(), tiles.size()});
  for (size_t head = 0; head < tiles.size(); ++head) {
    const int64_t m = tiles[head].m();
    const int64_t place =
        partials.offsets[first + head] + (item.block - first_block(tiles[head])) * m;
    std::copy_n(workspaces[head].block_states.data(), m, partials.states.data() + place);
    std::copy_n(workspaces[head].block_values.data(),
                m * head_dim,
                partials.values.data() + place * head_dim);
  }
}

void merge_split_tile(const Tile& tile,
                      int64_t offset,
                      Workspace& workspace,
                      const SplitPartials& partials) {
  const int64_t head_dim = tile.attention.shape.head_dim;
  workspace.prepare(tile.m(), head_dim);
  for (int64_t block = 0; block < block_count(tile); ++block) {
    for (int64_t m = 0; m < tile.m(); ++m) {
      const int64_t place = offset + block * tile.m() + m;
      merge(workspace.states[static_cast<size_t>(m)],
            workspace.values.data() + m * head_dim,
            partials.states[static_cast<size_t>(place)],
            partials.values.data() + place * head_dim,
            head_dim);
    }
  }
  store_output(tile, workspace.states.data(), workspace.values.data());
}

// Of the thread that calls: a name of another function's would be the caller's, or never made.
std::vector<Workspace>& own_workspaces() {
  static thread_local std::vector<Workspace> workspaces(1);
  return workspaces;
}

// Items of tiles that are split: all heads of the same rows where there are blocks enough for all
// threads and the heads see the same blocks, else each head alone. Bits depend on neither.
void plan_split(std::span<const Tile> split,
                int64_t kv_heads,
                std::vector<SplitItem>& items,
                SplitPartials& partials) {
  constexpr int64_t kItemsPerThread = 4;
  int64_t blocks = 0;
  int64_t states = 0;
  partials.offsets.clear();
  for (const Tile& tile : split) {
    partials.offsets.push_back(states);
    states += block_count(tile) * tile.m();
    blocks += block_count(tile);
  }
  const bool together = blocks >= kv_heads * kItemsPerThread * core::num_threads();
  for (int64_t first = 0; first < static_cast<int64_t>(split.size()); first += kv_heads) {
    const auto tiles = split.subspan(static_cast<size_t>(first), static_cast<size_t>(kv_heads));
    const bool alike = std::all_of(tiles.begin(), tiles.end(), [&](const Tile& tile) {
      return first_block(tile) == first_block(tiles[0]);
    });
    const int64_t heads = together && alike ? kv_heads : 1;
    for (int64_t head = 0; head < kv_heads; head += heads) {
      const Tile& tile = tiles[static_cast<size_t>(head)];
      for (int64_t block = first_block(tile); block < end_block(tile); ++block) {
        items.push_back({first + head, heads, block});
      }
    }
  }
  partials.states.resize(static_cast<size_t>(states));
  partials.values.resize(
      static_cast<size_t>(split.empty() ? 0 : states * split[0].attention.shape.head_dim));
}

void attend(const PagedAttention& attention, std::span<const AttentionSequence> sequences) {
  static thread_local std::vector<Tile> whole;
  static thread_local std::vector<Tile> split;
  static thread_local std::vector<SplitItem> items;
  static thread_local SplitPartials partials;
  whole.clear();
  split.clear();
  items.clear();
  for (const AttentionSequence& sequence : sequences) {
    for (int64_t first = 0; first < sequence.rows;) {
      // A tile never crosses a page's end: its rows share one own page.
      const int64_t room = kPageTokens - (sequence.first_rank + first) % kPageTokens;
      const int64_t count = std::min(room, sequence.rows - first);
      for (int64_t kv_head = 0; kv_head < attention.shape.kv_heads; ++kv_head) {
        Tile tile{attention, sequence, kv_head, first, count, 0};
        tile.begin = lowest_begin(tile);
        (sequence.rows > kSplitRows ? whole : split).push_back(tile);
      }
      first += count;
    }
  }
  plan_split(split, attention.shape.kv_heads, items, partials);
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
      attend_tile(whole_tiles[static_cast<size_t>(num_whole - 1 - item)], own_workspaces()[0]);
      return;
    }
    const SplitItem& part = split_items[static_cast<size_t>(item - num_whole)];
    const std::byte* next = nullptr;
    if (item + 1 < num_whole + num_items) {
      const SplitItem& following = split_items[static_cast<size_t>(item + 1 - num_whole)];
      const Tile& tile = split_tiles[static_cast<size_t>(following.first_tile)];
      next = BlockPass({&tile, 1}, following.block).first_part();
    }
    run_split_item(split_tiles, part, next, own_workspaces(), split_partials);
  });
  for (size_t tile = 0; tile < split.size(); ++tile) {
    merge_split_tile(split[tile], partials.offsets[tile], own_workspaces()[0], partials);
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
