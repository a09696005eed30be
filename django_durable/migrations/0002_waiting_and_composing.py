import django_durable.models.base
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('durable', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Approval',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('job_id', models.UUIDField(db_comment='The job that waits.', help_text='The job that waits.')),
                ('identity', models.TextField(db_comment='Identity of the wait within the job.', help_text='Identity of the wait within the job.')),
                ('title', models.TextField(db_comment='The question, in a line.', help_text='The question, in a line.')),
                ('form_path', models.TextField(db_comment='The Django form that an answer must satisfy. Null: yes or no only.', help_text='The Django form that an answer must satisfy. Null: yes or no only.', null=True)),
                ('group_name', models.TextField(db_comment='The group whose members may answer. Null: see the permission.', help_text='The group whose members may answer. Null: see the permission.', null=True)),
                ('permission', models.TextField(db_comment='The permission that allows to answer. Null: see the group.', help_text='The permission that allows to answer. Null: see the group.', null=True)),
                ('subject_type', models.TextField(db_comment='Model label of what is to be approved, such as shop.order.', help_text='Model label of what is to be approved, such as shop.order.', null=True)),
                ('subject_key', models.TextField(db_comment='Primary key of that object, as text.', help_text='Primary key of that object, as text.', null=True)),
                ('requested_at', models.DateTimeField(db_comment='When the job first asked.', help_text='When the job first asked.')),
                ('deadline_at', models.DateTimeField(db_comment='When the job goes on without an answer. Null: never.', help_text='When the job goes on without an answer. Null: never.', null=True)),
                ('approved', models.BooleanField(db_comment='The answer. Null: none yet, or the job went on without.', help_text='The answer. Null: none yet, or the job went on without.', null=True)),
                ('answer', django_durable.models.base.JsonTextField(db_comment="The form's cleaned data, encoded.", help_text="The form's cleaned data, encoded.", null=True)),
                ('answered_at', models.DateTimeField(db_comment='When it was answered.', help_text='When it was answered.', null=True)),
                ('answered_by_key', models.TextField(db_comment='Primary key of the user who answered, as text.', help_text='Primary key of the user who answered, as text.', null=True)),
                ('answered_by_name', models.TextField(db_comment="That user's name at the time; it outlives the user.", help_text="That user's name at the time; it outlives the user.", null=True)),
                ('closed_at', models.DateTimeField(db_comment='When it was answered, timed out, or its job ended. Null: open.', help_text='When it was answered, timed out, or its job ended. Null: open.', null=True)),
            ],
            options={
                'verbose_name': 'approval',
                'verbose_name_plural': 'approvals',
                'permissions': [('answer_approval', 'Can answer every approval')],
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='Event',
            fields=[
                ('key', models.TextField(db_comment="The event's name, one for all jobs.", help_text="The event's name, one for all jobs.", primary_key=True, serialize=False)),
                ('payload', django_durable.models.base.JsonTextField(db_comment='What was emitted, encoded. Null: nothing yet.', help_text='What was emitted, encoded. Null: nothing yet.', null=True)),
                ('emitted_at', models.DateTimeField(db_comment='When it was emitted. Null: jobs wait for it.', help_text='When it was emitted. Null: jobs wait for it.', null=True)),
                ('created_at', models.DateTimeField(db_comment='When it was first waited for or emitted; the row is what both lock.', help_text='When it was first waited for or emitted; the row is what both lock.')),
            ],
            options={
                'verbose_name': 'event',
                'verbose_name_plural': 'events',
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='JobValue',
            fields=[
                ('pk', models.CompositePrimaryKey('job_id', 'key', blank=True, editable=False, primary_key=True, serialize=False)),
                ('job_id', models.UUIDField(db_comment='The job.', help_text='The job.')),
                ('key', models.TextField(db_comment="The value's name.", help_text="The value's name.")),
                ('value', django_durable.models.base.JsonTextField(db_comment='The value, encoded.', help_text='The value, encoded.')),
                ('saved_at', models.DateTimeField(db_comment='When this was written.', help_text='When this was written.')),
            ],
            options={
                'verbose_name': 'value',
                'verbose_name_plural': 'values',
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Mailbox',
            fields=[
                ('pk', models.CompositePrimaryKey('job_id', 'name', blank=True, editable=False, primary_key=True, serialize=False)),
                ('job_id', models.UUIDField(db_comment='The job that is sent to.', help_text='The job that is sent to.')),
                ('name', models.TextField(db_comment='The name of its events.', help_text='The name of its events.')),
                ('created_at', models.DateTimeField(db_comment='When it was first waited for or sent to.', help_text='When it was first waited for or sent to.')),
            ],
            options={
                'verbose_name': 'mailbox',
                'verbose_name_plural': 'mailboxes',
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('job_id', models.UUIDField(db_comment='The job that is sent to.', help_text='The job that is sent to.')),
                ('name', models.TextField(db_comment="The event's name.", help_text="The event's name.")),
                ('payload', django_durable.models.base.JsonTextField(db_comment='What was sent, encoded.', help_text='What was sent, encoded.')),
                ('idempotency_key', models.TextField(db_comment="The sender's name for this send, once for each job. Null: none.", help_text="The sender's name for this send, once for each job. Null: none.", null=True)),
                ('sent_at', models.DateTimeField(db_comment='When it was sent.', help_text='When it was sent.')),
                ('taken_as', models.TextField(db_comment='Identity of the wait that took it. Null: not taken yet.', help_text='Identity of the wait that took it. Null: not taken yet.', null=True)),
            ],
            options={
                'verbose_name': 'message',
                'verbose_name_plural': 'messages',
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Progress',
            fields=[
                ('job_id', models.UUIDField(db_comment='The job.', help_text='The job.', primary_key=True, serialize=False)),
                ('done', models.BigIntegerField(db_comment='How much is done.', help_text='How much is done.')),
                ('total', models.BigIntegerField(db_comment='How much there is. Null: not known.', help_text='How much there is. Null: not known.', null=True)),
                ('note', models.TextField(db_comment='What it is doing, for people; may be empty.', help_text='What it is doing, for people; may be empty.')),
                ('saved_at', models.DateTimeField(db_comment='When this was written.', help_text='When this was written.')),
            ],
            options={
                'verbose_name': 'progress',
                'verbose_name_plural': 'progress',
                'default_permissions': (),
            },
        ),
        migrations.AlterModelOptions(
            name='job',
            options={'default_permissions': ('view',), 'ordering': ['-id'], 'permissions': [('retry_job', 'Can retry jobs'), ('cancel_job', 'Can cancel jobs'), ('fork_job', 'Can fork and restart jobs'), ('send_event', 'Can send events to jobs and wake them')], 'verbose_name': 'job', 'verbose_name_plural': 'jobs'},
        ),
        migrations.RemoveConstraint(
            model_name='checkpoint',
            name='checkpoint_state_is_known',
        ),
        migrations.AddField(
            model_name='checkpoint',
            name='compensation',
            field=django_durable.models.base.JsonTextField(db_comment='The call that undoes this step, encoded. Null: none.', help_text='The call that undoes this step, encoded. Null: none.', null=True),
        ),
        migrations.AddField(
            model_name='checkpoint',
            name='wait_key',
            field=models.TextField(db_comment='What ends a STARTED wait, such as event/NAME. Null: only time.', help_text='What ends a STARTED wait, such as event/NAME. Null: only time.', null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='awaited_as',
            field=models.TextField(db_comment='Under which identity the parent waits for this job. Null: it does not.', help_text='Under which identity the parent waits for this job. Null: it does not.', null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='cancels_children',
            field=models.BooleanField(db_comment='Whether live children are still to be cancelled.', db_default=False, help_text='Whether live children are still to be cancelled.'),
        ),
        migrations.AddField(
            model_name='job',
            name='context',
            field=django_durable.models.base.JsonTextField(db_comment='Language, time zone, user and more of the enqueuer, encoded. Null: nothing.', help_text='Language, time zone, user and more of the enqueuer, encoded. Null: nothing.', null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='continued_count',
            field=models.IntegerField(db_comment='How often continue_as() started this job over.', db_default=0, help_text='How often continue_as() started this job over.'),
        ),
        migrations.AddField(
            model_name='job',
            name='depth',
            field=models.SmallIntegerField(db_comment='How many parents this job has above it; bounded.', db_default=0, help_text='How many parents this job has above it; bounded.'),
        ),
        migrations.AddField(
            model_name='job',
            name='ends_as',
            field=models.TextField(db_comment='The final state decided on while compensations run. Null: none is decided.', help_text='The final state decided on while compensations run. Null: none is decided.', null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='waiting_since',
            field=models.DateTimeField(db_comment='When the job was first suspended for what it waits for.', help_text='When the job was first suspended for what it waits for.', null=True),
        ),
        migrations.AlterField(
            model_name='checkpoint',
            name='fingerprint',
            field=models.TextField(db_comment='Its arguments, canonical and shortened; of a child, the scope that awaits it.', help_text='Its arguments, canonical and shortened; of a child, the scope that awaits it.', null=True),
        ),
        migrations.AlterField(
            model_name='checkpoint',
            name='kind',
            field=models.TextField(db_comment='The kind of step, or of wait; compared on replay.', help_text='The kind of step, or of wait; compared on replay.'),
        ),
        migrations.AlterField(
            model_name='checkpoint',
            name='next_attempt_at',
            field=models.DateTimeField(db_comment='When a RETRYING step is tried again, or a STARTED wait is over.', help_text='When a RETRYING step is tried again, or a STARTED wait is over.', null=True),
        ),
        migrations.AlterField(
            model_name='checkpoint',
            name='state',
            field=models.TextField(choices=[('STARTED', 'started'), ('RETRYING', 'tried again later'), ('SUCCESSFUL', 'successful'), ('FAILED', 'failed'), ('COMPENSATED', 'undone by its compensation')], db_comment='STARTED, RETRYING, SUCCESSFUL, FAILED (these two are final) or COMPENSATED.', help_text='STARTED, RETRYING, SUCCESSFUL, FAILED (these two are final) or COMPENSATED.'),
        ),
        migrations.AddIndex(
            model_name='checkpoint',
            index=models.Index(condition=models.Q(('wait_key__isnull', False)), fields=['wait_key'], name='checkpoint_waiting'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('awaited_as__isnull', False)), fields=['parent_id', 'awaited_as', 'state', 'wait_kind', 'id'], name='job_awaited'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('finished_at__isnull', True), ('parent_id__isnull', False)), fields=['parent_id', 'on_parent_end'], name='job_live_children'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('cancels_children', True)), fields=['id'], name='job_cancels_children'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('deadline_at__isnull', False), ('finished_at__isnull', True)), fields=['deadline_at'], name='job_deadline'),
        ),
        migrations.AddConstraint(
            model_name='checkpoint',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['STARTED', 'RETRYING', 'SUCCESSFUL', 'FAILED', 'COMPENSATED'])), name='checkpoint_state_is_known'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.CheckConstraint(condition=models.Q(('ends_as__isnull', True), ('ends_as__in', ['FAILED', 'CANCELLED']), _connector='OR'), name='job_ends_as_is_an_end'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.CheckConstraint(condition=models.Q(('on_parent_end__isnull', True), ('on_parent_end', 'cancel'), _connector='OR'), name='job_on_parent_end_is_known'),
        ),
        migrations.AddIndex(
            model_name='approval',
            index=models.Index(condition=models.Q(('closed_at__isnull', True)), fields=['requested_at'], name='approval_open'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.UniqueConstraint(fields=('job_id', 'identity'), name='approval_once'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['created_at'], name='event_created'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('taken_as__isnull', True)), fields=['job_id', 'name', 'id'], name='message_untaken'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(fields=['job_id', 'id'], name='message_job'),
        ),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.UniqueConstraint(condition=models.Q(('idempotency_key__isnull', False)), fields=('job_id', 'idempotency_key'), name='message_once'),
        ),
    ]
