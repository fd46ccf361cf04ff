#include "kv/kv_store.h"

#include <algorithm>

#include "core/check.h"
#include "core/error.h"

namespace adze::kv {

int64_t SlotPages::page_bytes() const {
  int64_t total = side ? side.bytes() : 0;
  for (const PageRef& page : sealed) {
    total += page.bytes();
  }
  for (size_t i = 0; i < raw.size(); ++i) {
    const auto page = static_cast<size_t>(first_raw) + i;
    // Where both forms are one, a page counts once.
    if (page >= sealed.size() || sealed[page].data() != raw[i].data()) {
      total += raw[i].bytes();
    }
  }
  return total;
}

int64_t KvStore::most_slot_bytes(int64_t tokens) const {
  const int64_t pages = (tokens + kPageTokens - 1) / kPageTokens;
  // One page is being filled; the first ones may not be sealed yet.
  const int64_t raw = std::min(pages, std::max<int64_t>(first_pages(), 1));
  return std::max(raw * raw_page_bytes(),
                  raw_page_bytes() + std::max<int64_t>(pages - 1, 0) * sealed_page_bytes()) +
         side_bytes();
}

void KvStore::seal_pages(PagePool& pool, SlotPages& slot, int64_t end) const {
  if (end < first_pages() && !slot.side) {
    return;
  }
  if (slot.sealed.empty() && side_bytes() > 0 && !slot.side) {
    make_side(pool, slot);
  }
  for (auto page = static_cast<int64_t>(slot.sealed.size()); page < end; ++page) {
    slot.sealed.push_back(
        seal(pool, slot, slot.raw[static_cast<size_t>(page - slot.first_raw)], page));
  }
}

void KvStore::append(PagePool& pool,
                     SlotPages& slot,
                     const float* key,
                     const float* value,
                     std::span<const int32_t> positions) const {
  const int64_t width = shape_.kv_heads * shape_.head_dim;
  const auto rows = static_cast<int64_t>(positions.size());
  if (slot.length == 0 && slot.sealed.empty()) {
    slot.unsealed_pages = first_pages() > 1 && !slot.side ? first_pages() : 0;
  }
  if (slot.positions.empty()) {
    // Spelt out once they are no longer the ranks.
    const bool ranks = rows == 0 || (positions.front() == slot.length &&
                                     positions.back() == slot.length + rows - 1);
    for (int64_t rank = 0; !ranks && rank < slot.length; ++rank) {
      slot.positions.push_back(static_cast<int32_t>(rank));
    }
    if (!ranks) {
      slot.positions.insert(slot.positions.end(), positions.begin(), positions.end());
    }
  } else {
    const auto marks = static_cast<int64_t>(slot.positions.size()) / slot.length;
    for (const int32_t position : positions) {
      slot.positions.insert(slot.positions.end(), static_cast<size_t>(marks), position);
    }
  }
  for (int64_t row = 0; row < rows;) {
    const int64_t index = slot.length % kPageTokens;
    if (index == 0) {
      const int64_t page = slot.length / kPageTokens;
      if (slot.raw.empty()) {
        slot.first_raw = page;
      }
      seal_pages(pool, slot, page);
      slot.raw.push_back(pool.allocate(raw_page_bytes()));
    } else if (slot.raw.back().shared()) {
      slot.raw.back() = pool.copy(slot.raw.back());
    }
    const int64_t count = std::min(kPageTokens - index, rows - row);
    kernels::write_page_tokens(shape_,
                               raw_type(),
                               key + row * width,
                               value + row * width,
                               index,
                               count,
                               slot.raw.back().data());
    row += count;
    slot.length += count;
  }
}

void KvStore::attend(std::span<const SequenceRows> sequences,
                     const kernels::KeyRotation& rotation) const {
  static thread_local std::vector<const std::byte*> pointers;
  static thread_local std::vector<kernels::AttentionSequence> attention;
  pointers.clear();
  attention.clear();
  size_t needed = 0;
  for (const SequenceRows& rows : sequences) {
    needed += rows.pages->sealed.size() + static_cast<size_t>(rows.pages->num_pages());
  }
  pointers.reserve(needed);  // the kernel holds pointers into it
  for (const SequenceRows& rows : sequences) {
    const SlotPages& slot = *rows.pages;
    const std::byte* const* sealed = pointers.data() + pointers.size();
    for (const PageRef& page : slot.sealed) {
      pointers.push_back(page.data());
    }
    // By page number; pages before the first raw one are nobody's own in this step.
    const std::byte* const* own = pointers.data() + pointers.size();
    pointers.resize(pointers.size() + static_cast<size_t>(slot.first_raw), nullptr);
    for (const PageRef& page : slot.raw) {
      pointers.push_back(page.data());
    }
    attention.push_back({.query = rows.query,
                         .output = rows.output,
                         .rows = rows.rows,
                         .first_rank = slot.length - rows.rows,
                         // An encoder's rows are all of one step: every page is somebody's own.
                         .pages = rows.bidirectional ? own : sealed,
                         .own_pages = own,
                         .first_visible = rows.first_visible,
                         .first_visible_head_stride = rows.first_visible_heads == 1 ? 0 : rows.rows,
                         .bidirectional = rows.bidirectional,
                         .first_pages = slot.unsealed_pages,
                         .side = slot.side ? slot.side.data() : nullptr,
                         .log_sum_exp = rows.log_sum_exp});
  }
  kernels::paged_attention({.shape = shape(),
                            .page_type = sealed_type(),
                            .own_page_type = raw_type(),
                            .key_rotation = rotation,
                            .codec = codec()},
                           attention);
}

void KvStore::add_mass(const SlotPages& slot,
                       const MassRows& rows,
                       const kernels::MassTarget& mass) const {
  const auto count = static_cast<int64_t>(rows.end_ranks.size());
  const auto sealed_pages = static_cast<int64_t>(slot.sealed.size());
  const int64_t heads = slot.positions.empty() || slot.length == 0
                            ? 1
                            : static_cast<int64_t>(slot.positions.size()) / slot.length;
  for (int64_t first = 0; first < count;) {
    // Rows of one page read the same forms.
    const int64_t own = (rows.end_ranks[static_cast<size_t>(first)] - 1) / kPageTokens;
    int64_t end = first + 1;
    while (end < count && (!rows.as_attended ||
                           (rows.end_ranks[static_cast<size_t>(end)] - 1) / kPageTokens == own)) {
      ++end;
    }
    int64_t sealed = sealed_pages;
    if (rows.as_attended) {
      sealed = own < slot.unsealed_pages ? 0 : std::min(own, sealed_pages);
    }
    std::vector<const std::byte*> pages;
    std::vector<kernels::PageType> types;
    for (int64_t page = 0; page < slot.num_pages(); ++page) {
      pages.push_back(page < sealed ? slot.sealed[static_cast<size_t>(page)].data()
                                    : slot.raw[static_cast<size_t>(page - slot.first_raw)].data());
      types.push_back(page < sealed ? sealed_type() : raw_type());
    }
    std::vector<int32_t> begin_ranks;
    for (int64_t head = 0; rows.window > 0 && head < heads; ++head) {
      for (int64_t row = first; row < end; ++row) {
        begin_ranks.push_back(static_cast<int32_t>(first_visible_rank(
            slot, head, rows.end_ranks[static_cast<size_t>(row)] - 1, rows.window)));
      }
    }
    kernels::attention_mass(
        {.shape = shape(),
         .page_type = sealed_type(),
         .own_page_type = raw_type(),
         .key_rotation = rows.rotation,
         .codec = codec()},
        {.query = rows.query + first * shape_.heads * shape_.head_dim,
         .log_sum_exp = rows.log_sum_exp + first * shape_.heads,
         .row_weights = rows.weights == nullptr ? nullptr : rows.weights + first,
         .end_ranks = rows.end_ranks.data() + first,
         .begin_ranks = begin_ranks.empty() ? nullptr : begin_ranks.data(),
         .begin_head_stride = heads == 1 ? 0 : end - first,
         .rows = end - first,
         .pages = pages.data(),
         .page_types = types.data(),
         .side = slot.side ? slot.side.data() : nullptr,
         .tokens = slot.length,
         .mass = mass});
    first = end;
  }
}

int64_t first_visible_rank(const SlotPages& slot, int64_t head, int64_t rank, int64_t window) {
  if (window == 0) {
    return 0;
  }
  if (slot.positions.empty()) {
    return std::max<int64_t>(0, rank - window + 1);
  }
  // Tokens were dropped: the window counts positions in the text, not ranks.
  const auto heads = static_cast<int64_t>(slot.positions.size()) / slot.length;
  const auto position = [&](int64_t r) {
    return slot.positions[static_cast<size_t>(r * heads + (heads == 1 ? 0 : head))];
  };
  const int64_t oldest = position(rank) - window + 1;
  int64_t first = 0;
  for (int64_t last = rank; first < last;) {
    const int64_t middle = (first + last) / 2;
    if (position(middle) < oldest) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  return first;
}

void KvStore::read_page(
    const SlotPages& slot, int64_t page, int64_t kv_head, float* key, float* value) const {
  if (page >= slot.first_raw) {
    const int64_t count = std::min(kPageTokens, slot.length - page * kPageTokens);
    const PageRef& raw = slot.raw[static_cast<size_t>(page - slot.first_raw)];
    kernels::read_page_head(shape_, raw_type(), raw.data(), kv_head, count, key, value);
  } else {
    read_sealed(slot, page, kv_head, key, value);
  }
}

std::vector<float> KvStore::keys(const SlotPages& slot) const {
  const auto tile = static_cast<size_t>(kPageTokens * shape_.head_dim);
  std::vector<float> result(static_cast<size_t>(shape_.kv_heads * slot.length * shape_.head_dim));
  std::vector<float> key(tile);
  std::vector<float> value(tile);
  for (int64_t head = 0; head < shape_.kv_heads; ++head) {
    for (int64_t first = 0; first < slot.length; first += kPageTokens) {
      read_page(slot, first / kPageTokens, head, key.data(), value.data());
      std::copy_n(key.data(),
                  std::min(kPageTokens, slot.length - first) * shape_.head_dim,
                  result.data() + (head * slot.length + first) * shape_.head_dim);
    }
  }
  return result;
}

void KvStore::end_step(SlotPages& slot) const {
  const auto sealed = static_cast<int64_t>(slot.sealed.size());
  if (sealed > slot.first_raw && !slot.raw.empty()) {
    slot.raw.erase(slot.raw.begin(), slot.raw.begin() + (sealed - slot.first_raw));
    slot.first_raw = sealed;
  }
  if (slot.side) {
    slot.unsealed_pages = 0;
  }
}

void KvStore::truncate(SlotPages& slot, int64_t length) const {
  core::check(
      length >= 0 && length <= slot.length, "length within ", slot.length, ", got ", length);
  core::check(slot.positions.empty(), "truncation of a cache that has dropped tokens");
  end_step(slot);
  if (length == slot.length) {
    return;
  }
  const int64_t open_page = length / kPageTokens;  // the page that would hold token `length`
  const bool opens_sealed = length % kPageTokens != 0 && open_page < slot.first_raw;
  const bool loses_side = slot.side && length != 0 && open_page < first_pages();
  if ((opens_sealed || loses_side) && !sealed_is_raw()) {
    throw core::error("cache",
                      "store {}: expected to cut back to {} tokens or more, or to a "
                      "multiple of {} from {} on, got {}",
                      name(),
                      slot.first_raw * kPageTokens,
                      kPageTokens,
                      slot.side ? first_pages() * kPageTokens : 0,
                      length);
  }
  if (length == 0) {
    slot = SlotPages();
    return;
  }
  slot.received.resize(slot.received.size() / static_cast<size_t>(slot.length) *
                       static_cast<size_t>(length));
  if (open_page < slot.first_raw) {
    slot.raw.clear();
    if (length % kPageTokens != 0) {
      slot.raw.push_back(slot.sealed[static_cast<size_t>(open_page)]);
    }
    slot.sealed.resize(static_cast<size_t>(open_page));
    slot.first_raw = open_page;
  } else {  // raw pages up to the open one stay; a whole one before it is sealed when a row follows
    const int64_t pages = (length + kPageTokens - 1) / kPageTokens;
    slot.raw.resize(static_cast<size_t>(std::max<int64_t>(pages - slot.first_raw, 0)));
  }
  slot.length = length;
}

namespace {

// True where the kept tokens [page * 32, ...) are exactly those of one old page, in their places.
bool is_whole_page(const Columns& columns, int64_t page, int64_t count, int64_t* old_page) {
  const int64_t kept = columns.kept();
  const int64_t first = page * kPageTokens;
  *old_page = columns.ranks[static_cast<size_t>(first)] / kPageTokens;
  for (int64_t head = 0; head < columns.heads; ++head) {
    for (int64_t i = 0; i < count; ++i) {
      if (columns.ranks[static_cast<size_t>(head * kept + first + i)] !=
          *old_page * kPageTokens + i) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

PageRef KvStore::pack_page(PagePool& pool,
                           const SlotPages& slot,
                           const Columns& columns,
                           int64_t page) const {
  const auto width = static_cast<size_t>(shape_.kv_heads * shape_.head_dim);
  const int64_t kept = columns.kept();
  const int64_t first = page * kPageTokens;
  const int64_t count = std::min(kPageTokens, kept - first);
  PageRef target = pool.allocate(raw_page_bytes());
  const auto tile = static_cast<size_t>(kPageTokens * shape_.head_dim);
  std::vector<float> key(tile);
  std::vector<float> value(tile);
  std::vector<float> packed_key(width * static_cast<size_t>(count));
  std::vector<float> packed_value(packed_key.size());
  for (int64_t head = 0; head < shape_.kv_heads; ++head) {
    int64_t at_hand = -1;  // the page in key and value
    for (int64_t i = 0; i < count; ++i) {
      const int64_t column = (columns.heads == 1 ? 0 : head * kept) + first + i;
      const int64_t rank = columns.ranks[static_cast<size_t>(column)];
      if (rank / kPageTokens != at_hand) {
        at_hand = rank / kPageTokens;
        read_page(slot, at_hand, head, key.data(), value.data());
      }
      const int64_t source = rank % kPageTokens * shape_.head_dim;
      const int64_t place = (i * shape_.kv_heads + head) * shape_.head_dim;
      std::copy_n(key.data() + source, shape_.head_dim, packed_key.data() + place);
      std::copy_n(value.data() + source, shape_.head_dim, packed_value.data() + place);
    }
  }
  kernels::write_page_tokens(
      shape_, raw_type(), packed_key.data(), packed_value.data(), 0, count, target.data());
  return target;
}

void KvStore::keep(PagePool& pool, SlotPages& slot, const Columns& columns) const {
  end_step(slot);
  const int64_t kept = columns.kept();
  core::check(kept >= 1 && (columns.heads == 1 || columns.heads == shape_.kv_heads),
              "columns of 1 or kv_heads heads, at least one kept");
  SlotPages result;
  result.side = slot.side;
  result.unsealed_pages = slot.unsealed_pages;
  // Before the first pages are sealed, all of them stay raw.
  const bool seals = first_pages() == 1 || slot.side;
  const int64_t pages = (kept + kPageTokens - 1) / kPageTokens;
  result.first_raw = seals ? pages - 1 : 0;
  for (int64_t page = 0; page < pages; ++page) {
    const int64_t count = std::min(kPageTokens, kept - page * kPageTokens);
    int64_t old_page = 0;
    bool whole = is_whole_page(columns, page, count, &old_page);
    // What a codec keeps of a page elsewhere belongs to the page's number.
    if (whole && old_page != page && codec() != nullptr &&
        (codec()->writes_side(page) || codec()->writes_side(old_page))) {
      whole = false;
    }
    if (page < result.first_raw) {
      result.sealed.push_back(whole && old_page < static_cast<int64_t>(slot.sealed.size())
                                  ? slot.sealed[static_cast<size_t>(old_page)]
                                  : seal(pool, result, pack_page(pool, slot, columns, page), page));
    } else {
      result.raw.push_back(whole && old_page >= slot.first_raw
                               ? slot.raw[static_cast<size_t>(old_page - slot.first_raw)]
                               : pack_page(pool, slot, columns, page));
    }
  }
  result.length = kept;
  // Heads that kept different tokens, now or before, need a position each.
  const int64_t marks =
      slot.positions.empty() ? 1 : static_cast<int64_t>(slot.positions.size()) / slot.length;
  const int64_t heads = std::max(marks, columns.heads);
  for (int64_t i = 0; i < kept; ++i) {
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t column = columns.heads == 1 ? i : head * kept + i;
      const int64_t rank = columns.ranks[static_cast<size_t>(column)];
      const int64_t mark = rank * marks + (marks == 1 ? 0 : head);
      result.positions.push_back(slot.positions.empty()
                                     ? static_cast<int32_t>(rank)
                                     : slot.positions[static_cast<size_t>(mark)]);
    }
  }
  const auto received = static_cast<int64_t>(slot.received.size()) / slot.length;  // of a token
  for (int64_t i = 0; i < kept * received; ++i) {
    const int64_t part = i % received;  // head and reader
    const int64_t head = part / (received / shape_.kv_heads);
    const int64_t column = (columns.heads == 1 ? 0 : head * kept) + i / received;
    const int64_t rank = columns.ranks[static_cast<size_t>(column)];
    result.received.push_back(slot.received[static_cast<size_t>(rank * received + part)]);
  }
  slot = std::move(result);
}

}  // namespace adze::kv
