/* The memory plan: each temporary gets an offset in one arena, by its lifetime.
 *
 * Largest first, each at the lowest offset where it meets no buffer that lives at the same time. */
#include "core/program.h"

#include <stdlib.h>

static void touch(cnn_buffer *buffer, int instruction)
{
    if (buffer->first < 0)
        buffer->first = instruction;
    buffer->last = instruction;
}

static void find_lifetimes(cnn_program *program)
{
    for (int i = 0; i < program->buffer_count; i++)
        program->buffers[i].first = program->buffers[i].last = -1;
    for (int i = 0; i < program->instruction_count; i++)
        for (int role = 0; role < CNN_ARG_COUNT; role++)
            if (program->instructions[i].arg[role] >= 0)
                touch(&program->buffers[program->instructions[i].arg[role]], i);
    if (program->pixel_gradient >= 0)
        program->buffers[program->pixel_gradient].last = program->instruction_count;
    if (program->goal == CNN_GOAL_OBSERVE)
        for (int i = 0; i < program->buffer_count; i++)
            if (program->buffers[i].first >= 0)
                program->buffers[i].last = program->instruction_count;
}

static size_t aligned_bytes(const cnn_buffer *buffer)
{
    return (cnn_desc_bytes(&buffer->desc) + CNN_ALIGN - 1) / CNN_ALIGN * CNN_ALIGN;
}

static bool live_together(const cnn_buffer *a, const cnn_buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* The lowest offset where `buffer` fits beside placed[0..count), which are sorted by offset. */
static size_t lowest_offset(const cnn_program *program, const int *placed, int count, const cnn_buffer *buffer)
{
    size_t offset = 0, bytes = aligned_bytes(buffer);
    for (int i = 0; i < count; i++) {
        const cnn_buffer *other = &program->buffers[placed[i]];
        if (!live_together(buffer, other))
            continue;
        if (offset + bytes <= other->offset)
            break;
        size_t end = other->offset + aligned_bytes(other);
        if (end > offset)
            offset = end;
    }
    return offset;
}

static void insert_by_offset(const cnn_program *program, int *placed, int count, int buffer)
{
    int at = count;
    while (at > 0 && program->buffers[placed[at - 1]].offset > program->buffers[buffer].offset) {
        placed[at] = placed[at - 1];
        at--;
    }
    placed[at] = buffer;
}

/* The largest temporary that is not placed yet; -1 when all are. Equal sizes: the lowest number. */
static int largest_left(const cnn_program *program, const bool *done)
{
    int best = -1;
    for (int i = 0; i < program->buffer_count; i++) {
        const cnn_buffer *buffer = &program->buffers[i];
        if (buffer->place != CNN_PLACE_ARENA || buffer->first < 0 || done[i])
            continue;
        if (best < 0 || aligned_bytes(buffer) > aligned_bytes(&program->buffers[best]))
            best = i;
    }
    return best;
}

cnn_status cnn_program_plan(cnn_program *program)
{
    size_t count = (size_t)program->buffer_count;
    int *placed = cnn_calloc(count, sizeof *placed);
    bool *done = cnn_calloc(count, sizeof *done);
    cnn_status status = placed && done ? CNN_OK : CNN_ERR_MEMORY;
    int placed_count = 0;
    program->arena_bytes = 0;
    if (status == CNN_OK)
        find_lifetimes(program);
    for (int next; status == CNN_OK && (next = largest_left(program, done)) >= 0;) {
        cnn_buffer *buffer = &program->buffers[next];
        buffer->offset = lowest_offset(program, placed, placed_count, buffer);
        insert_by_offset(program, placed, placed_count++, next);
        done[next] = true;
        size_t end = buffer->offset + aligned_bytes(buffer);
        if (end > program->arena_bytes)
            program->arena_bytes = end;
    }
    free(placed);
    free(done);
    return status;
}
