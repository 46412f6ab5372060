/* A rank is a number's place among those of its layer on its side of 0: 1 is the smallest positive one, -1 the largest
 * negative one, and 0 is 0. The coder of weights spells magnitudes out bit by bit, which for a few large numbers is
 * mostly bits that say nothing; of their ranks it takes few. */
#include "core/file_books.h"

#include "core/error.h"

#include <string.h>

enum { MOST_NUMBER = 127 };

/* What a layer's weights are. */
typedef struct book {
    int count; /* of numbers other than 0; 0: there is no book */
    int8_t number[CNN_BOOK_MOST];
    int positive; /* place of the first one above 0 */
} book;

static cnn_param *weight_of(const cnn_model *model, int node)
{
    return &model->nodes[node].param[CNN_PARAM_WEIGHT];
}

/* A number at place i is of rank ... */
static int rank_of(const book *b, int place)
{
    return place >= b->positive ? place - b->positive + 1 : place - b->positive;
}

/* The numbers of a layer; none when they are too many, or their own ranks. */
static book find_book(const cnn_param *weight)
{
    book b = {0};
    bool had[2 * MOST_NUMBER + 1] = {false}, gains = false;
    int count = 0;
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        had[((const int8_t *)weight->data)[i] + MOST_NUMBER] = true;
    for (int n = -MOST_NUMBER; n <= MOST_NUMBER; n++) {
        if (n == 0 || !had[n + MOST_NUMBER])
            continue;
        if (count == CNN_BOOK_MOST)
            return b;
        b.positive += n < 0;
        b.number[count++] = (int8_t)n;
    }
    for (int place = 0; place < count; place++)
        gains = gains || rank_of(&b, place) != b.number[place];
    b.count = gains ? count : 0;
    return b;
}

static void make_ranks(const book *b, cnn_param *weight)
{
    int8_t rank[2 * MOST_NUMBER + 1] = {0};
    for (int place = 0; place < b->count; place++)
        rank[b->number[place] + MOST_NUMBER] = (int8_t)rank_of(b, place);
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        ((int8_t *)weight->data)[i] = rank[((int8_t *)weight->data)[i] + MOST_NUMBER];
}

cnn_status cnn_books_make(const cnn_model *model, cnn_bytes *field, cnn_model **ranked)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    cnn_bytes made = {0};
    bool any = false;
    CNN_TRY(cnn_model_clone(model, &copy));
    for (int i = 0; i < copy->node_count; i++) {
        if (!cnn_node_has_weights(&copy->nodes[i]))
            continue;
        const book b = find_book(weight_of(copy, i));
        cnn_bytes_put_varint(&made, (uint64_t)b.count);
        if (b.count == 0)
            continue;
        any = true;
        cnn_bytes_put(&made, b.number, (size_t)b.count);
        make_ranks(&b, weight_of(copy, i));
    }
    if (any)
        cnn_bytes_put(field, made.data, made.length);
    if (made.failed || field->failed)
        CNN_TRY(CNN_ERR_MEMORY);
    *ranked = any ? copy : NULL;
    copy = any ? NULL : copy;
out:
    cnn_bytes_free(&made);
    cnn_model_free(copy);
    return status;
}

static void read_book(cnn_reader *field, book *b)
{
    *b = (book){.count = (int)cnn_reader_varint(field, CNN_BOOK_MOST, "the count of a codebook")};
    const uint8_t *bytes = cnn_reader_take(field, (size_t)b->count, "a codebook");
    if (!bytes) {
        b->count = 0;
        return;
    }
    memcpy(b->number, bytes, (size_t)b->count);
    for (int place = 0; place < b->count && !field->failed; place++) {
        const int number = b->number[place];
        if (number == 0 || number < -MOST_NUMBER || (place > 0 && number <= b->number[place - 1]))
            cnn_reader_fail(field, "a codebook holds %d where numbers from -127 to 127 but 0 must ascend", number);
        b->positive += number < 0;
    }
}

/* Every rank must have a number. */
static void make_numbers(cnn_reader *field, const book *b, cnn_param *weight, const char *layer)
{
    int8_t *values = weight->data;
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++) {
        const int rank = values[i], place = rank > 0 ? b->positive + rank - 1 : b->positive + rank;
        if (rank == 0)
            continue;
        if (place < 0 || place >= b->count || (rank < 0 && place >= b->positive)) {
            cnn_reader_fail(field, "the codebook of layer '%s' has no number of rank %d", layer, rank);
            return;
        }
        values[i] = b->number[place];
    }
}

cnn_status cnn_books_read(cnn_reader *field, cnn_model *model)
{
    for (int i = 0; i < model->node_count && !field->failed; i++) {
        book b;
        if (!cnn_node_has_weights(&model->nodes[i]))
            continue;
        read_book(field, &b);
        if (!field->failed && b.count > 0)
            make_numbers(field, &b, weight_of(model, i), model->nodes[i].name);
    }
    return cnn_reader_status(field);
}
