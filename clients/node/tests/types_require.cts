import client = require('run-recorder');
import bullmq = require('run-recorder/bullmq');

client.run('nightly', (r) => r.id).then((id: string) => bullmq.runIdOf('q', id, 1));
