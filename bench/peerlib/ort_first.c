/* ort_first MODEL.onnx IMAGE.f32 THREADS: the smallest program that starts ONNX Runtime, classifies one 28x28 image and
 * prints the class. MODEL.onnx is already optimized, so nothing is optimized here; the image needs no decoding.
 *
 * ONNX Runtime's wheel holds its library without its headers, so the functions are taken by their positions in OrtApi,
 * which only ever grows at its end (version 1 of the API has all that is used here). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct api_base {
    void *const *(*get_api)(uint32_t version);
    const char *(*version)(void);
} api_base;
extern const api_base *OrtGetApiBase(void);

enum {
    CREATE_ENV = 3,
    CREATE_SESSION = 7,
    RUN = 9,
    CREATE_OPTIONS = 10,
    SET_OPTIMIZATION = 23,
    SET_THREADS = 24,
    OUTPUT_NAME = 37,
    CREATE_TENSOR = 49,
    TENSOR_DATA = 51,
    CREATE_CPU_MEMORY = 69,
    DEFAULT_ALLOCATOR = 78
};
enum { FLOAT = 1, WARNING = 2, DEVICE_ALLOCATOR = 0, CPU_MEMORY = 0, CLASSES = 10 };

typedef void *status;
typedef status create_env(int level, const char *name, void **env);
typedef status create_session(void *env, const char *path, void *options, void **session);
typedef status run(void *session, void *options, const char *const *inputs, void *const *values, size_t count,
                   const char *const *outputs, size_t output_count, void **results);
typedef status create(void **object);
typedef status set_int(void *options, int value);
typedef status output_name(void *session, size_t index, void *allocator, char **name);
typedef status create_tensor(void *memory, void *data, size_t bytes, const int64_t *shape, size_t rank, int type,
                             void **tensor);
typedef status tensor_data(void *tensor, void **data);
typedef status create_memory(int allocator, int kind, void **memory);

/* One function of the API by its position; a failure ends the program. */
#define CALL(position, type, ...)                                 \
    do {                                                          \
        union {                                                   \
            void *object;                                         \
            type *function;                                       \
        } at = {api[position]};                                   \
        if (at.function(__VA_ARGS__)) {                           \
            fprintf(stderr, "ort_first: %s failed\n", #position); \
            return 1;                                             \
        }                                                         \
    } while (0)

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    float image[28 * 28];
    FILE *file = fopen(argv[2], "rb");
    if (!file || fread(image, sizeof image, 1, file) != 1)
        return 1;
    fclose(file);
    void *const *api = OrtGetApiBase()->get_api(1);
    if (!api)
        return 1;
    void *env, *options, *session, *memory, *input, *output = NULL, *allocator, *data;
    char *name;
    CALL(CREATE_ENV, create_env, WARNING, "first", &env);
    CALL(CREATE_OPTIONS, create, &options);
    CALL(SET_OPTIMIZATION, set_int, options, 0);
    CALL(SET_THREADS, set_int, options, atoi(argv[3]));
    CALL(CREATE_SESSION, create_session, env, argv[1], options, &session);
    CALL(CREATE_CPU_MEMORY, create_memory, DEVICE_ALLOCATOR, CPU_MEMORY, &memory);
    const int64_t shape[4] = {1, 1, 28, 28};
    CALL(CREATE_TENSOR, create_tensor, memory, image, sizeof image, shape, 4, FLOAT, &input);
    CALL(DEFAULT_ALLOCATOR, create, &allocator);
    CALL(OUTPUT_NAME, output_name, session, 0, allocator, &name);
    const char *inputs[1] = {"image"}, *outputs[1] = {name};
    CALL(RUN, run, session, NULL, inputs, &input, 1, outputs, 1, &output);
    CALL(TENSOR_DATA, tensor_data, output, &data);
    const float *logits = data;
    int best = 0;
    for (int i = 1; i < CLASSES; i++)
        best = logits[i] > logits[best] ? i : best;
    printf("%d\n", best);
    return 0;
}
