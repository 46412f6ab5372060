/* A program outside of the project: makes a network and runs it once. */
#include <cnn/cnn.h>

#include <stdio.h>

int main(void)
{
    static const unsigned char image[28 * 28];
    float logits[10];
    cnn_model *model = NULL;
    cnn_session *session = NULL;
    const cnn_session_options options = {.device = "cpu"};
    cnn_status status = cnn_model_create("lenet5", &model);
    if (status == CNN_OK) {
        cnn_model_init(model, 1);
        status = cnn_session_open(model, &options, &session);
    }
    if (status == CNN_OK)
        status = cnn_session_infer(session, image, 1, logits);
    if (status != CNN_OK)
        fprintf(stderr, "hello: %s\n", cnn_last_error());
    cnn_session_close(session);
    cnn_model_free(model);
    return status != CNN_OK;
}
