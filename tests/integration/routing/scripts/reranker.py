"""The toolkit's cross encoder, which needs nothing of GenAI Hub."""

from hana_ai.vectorstore.pal_cross_encoder import PALCrossEncoder

scores = PALCrossEncoder(None).predict([("red house", "a dog"), ("red house", "the red house")])
print(len(scores), scores[0] < scores[1])
