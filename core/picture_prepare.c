/* The recipes that turn a picture into what a network reads. */
#include "core/picture.h"

#include "core/error.h"
#include "core/memory.h"

#include <stdlib.h>

/* Planes of one digit's preparation. */
typedef struct digit_planes {
    int32_t height, width; /* at which the work is done: at most CNN_PICTURE_WORK a side */
    float *rgb;            /* [height,width,3]; later scratch */
    float *ink;            /* [height,width] */
    uint8_t *mask;         /* [height,width] */
} digit_planes;

static int32_t shrink(int32_t side, int32_t longest)
{
    if (longest <= CNN_PICTURE_WORK)
        return side;
    int32_t result = (int32_t)((2 * (int64_t)side * CNN_PICTURE_WORK + longest) / (2 * (int64_t)longest));
    return result < 1 ? 1 : result;
}

static cnn_status planes_alloc(const cnn_picture *picture, digit_planes *planes)
{
    int32_t longest = picture->width > picture->height ? picture->width : picture->height;
    planes->width = shrink(picture->width, longest);
    planes->height = shrink(picture->height, longest);
    size_t count = (size_t)planes->width * (size_t)planes->height;
    planes->rgb = cnn_calloc(count, 3 * sizeof(float));
    planes->ink = cnn_calloc(count, sizeof(float));
    planes->mask = cnn_calloc(count, 1);
    return planes->rgb && planes->ink && planes->mask ? CNN_OK : CNN_ERR_MEMORY;
}

cnn_status cnn_picture_prepare_digit(const cnn_picture *picture, const char *path, uint8_t *pixels)
{
    cnn_status status = CNN_OK;
    digit_planes planes = {0};
    cnn_box box;
    CNN_TRY(planes_alloc(picture, &planes));
    int32_t height = planes.height, width = planes.width;
    CNN_TRY(cnn_picture_compose(picture, height, width, planes.rgb));
    bool drawn = cnn_ink_project(planes.rgb, height, width, planes.mask, planes.ink);
    if (drawn) {
        cnn_ink_smooth(planes.ink, height, width, planes.rgb);
        drawn = cnn_ink_threshold(planes.ink, (size_t)height * (size_t)width, planes.mask);
    }
    if (!drawn)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: nothing is drawn in it, the picture is all one colour", path);
    CNN_TRY(cnn_ink_components(planes.ink, planes.mask, height, width, &box));
    status = cnn_ink_place(planes.ink, width, box, pixels);
    if (status == CNN_ERR_FORMAT)
        cnn_error_prefix(status, "%s", path);
out:
    free(planes.rgb);
    free(planes.ink);
    free(planes.mask);
    return status;
}
